-- The gate: what a caller may ask, checked before Triton sees it. Runs inside Envoy, once for each request and answer.
--
-- DATA (rendered in front of this file, see gate_data.py) says what is served, who may ask for it, and by which shares.
-- A request that this file does not let through has no route: Envoy's routes want the header PASS with DATA.secret, which
-- changes with each rendering. So a fault in here refuses, and never lets through.

local PASS, MARK = "x-modelport-pass", "modelport"
local TEXT = {
  forbidden = "this key does not allow that",
  not_found = "there is nothing here",
  internal = "the model could not answer",
  overloaded = "the server has more requests than it can answer",
  unavailable = "the server does not answer",
  timeout = "the answer took too long",
  quota = "the quota of this day is used up",
}
local STATUS = {
  bad_request = { "400", "3" }, forbidden = { "403", "7" }, not_found = { "404", "5" }, too_large = { "413", "8" },
  unsupported = { "415", "12" },
}
local DIM_MOST, ELEMENTS_MOST = 2147483647, 2147483648
local METHODS = { ModelInfer = "infer", ModelReady = "ready", ModelMetadata = "metadata",
                  ServerLive = "server", ServerReady = "server", ServerMetadata = "server" }
local SERVER = { ["/v2"] = true, ["/v2/"] = true, ["/v2/health/live"] = true, ["/v2/health/ready"] = true }

local pending, pending_count = {}, 0 -- requests that are captured, until their answer comes

-- A refusal: Envoy makes the JSON, or the gRPC status, from it (listener.py).
local function refuse(handle, code, text)
  local status = STATUS[code]
  handle:streamInfo():dynamicMetadata():set(MARK, "code", code)
  handle:respond({ [":status"] = status[1], ["grpc-status"] = status[2] }, text or TEXT[code])
end

local function bad(text) return { code = "bad_request", text = text } end

-- ---------------------------------------------------------------------------------------------- what a request asks

-- What a path over HTTP asks for: model, version, kind; nil where it is nothing that callers may ask for.
local function asked_by_path(method, path)
  path = path:match("^[^?#]*")
  if SERVER[path] then
    if method == "GET" then return { kind = "server", path = path:gsub("/$", "") } end
    return nil
  end
  local model, rest = path:match("^/v2/models/([%w][%w._-]*)(.*)$")
  if not model or model:find("..", 1, true) then return nil end
  local version, tail = rest:match("^/versions/([%w][%w._-]*)(.*)$")
  if not version then version, tail = "", rest end
  if tail == "/infer" and method == "POST" then return { kind = "infer", model = model, version = version } end
  if tail == "/ready" and method == "GET" then return { kind = "ready", model = model, version = version } end
  if tail == "" and method == "GET" then return { kind = "metadata", model = model, version = version } end
  return nil
end

-- The bytes of a body, read through a window: what is skipped is never copied out of Envoy's buffer.
local WINDOW = 4096
local function reader(body)
  local length, chunk, base = body:length(), "", 0
  local self = { length = length }
  function self.byte(at)
    if at < base or at >= base + #chunk then
      base = at
      chunk = body:getBytes(base, math.min(WINDOW, length - base))
    end
    return chunk:byte(at - base + 1)
  end
  function self.bytes(at, count) return count == 0 and "" or body:getBytes(at, count) end
  return self
end

-- A varint of at most 2^53; -1 for what is larger or negative, nil where the bytes end.
local function varint(byte, at, stop)
  local value, factor = 0, 1
  for count = 1, 10 do
    if at >= stop then return nil end
    local one = byte(at)
    at = at + 1
    value = value + (one % 128) * factor
    factor = factor * 128
    if one < 128 then return count > 7 and -1 or value, at end
  end
  return nil
end

-- Calls visit(field, wire type, start or value, stop) for each field of a message; false where it is malformed.
local function fields(byte, at, stop, visit)
  while at < stop do
    local tag, size
    tag, at = varint(byte, at, stop)
    if not tag or tag < 8 then return false end
    local field, wire = math.floor(tag / 8), tag % 8
    if wire == 0 then
      size, at = varint(byte, at, stop)
      if not size then return false end
      visit(field, wire, size)
    elseif wire == 2 then
      size, at = varint(byte, at, stop)
      if not size or size < 0 or at + size > stop then return false end
      visit(field, wire, at, at + size)
      at = at + size
    elseif wire == 1 or wire == 5 then
      at = at + (wire == 1 and 8 or 4)
      if at > stop then return false end
      visit(field, wire, at)
    else
      return false
    end
  end
  return true
end

local function packed(byte, at, stop, into)
  while at < stop do
    local value
    value, at = varint(byte, at, stop)
    if not value then return false end
    into[#into + 1] = value
  end
  return true
end

-- An InferInputTensor: name, datatype, shape.
local function grpc_tensor(source, at, stop)
  local tensor = { shape = {}, shared = false }
  local whole = fields(source.byte, at, stop, function(field, wire, first, last)
    if field == 1 and wire == 2 then tensor.name = source.bytes(first, last - first) end
    if field == 2 and wire == 2 then tensor.datatype = source.bytes(first, last - first) end
    if field == 3 and wire == 0 then tensor.shape[#tensor.shape + 1] = first end
    if field == 3 and wire == 2 and not packed(source.byte, first, last, tensor.shape) then tensor.broken = true end
    if field == 4 and wire == 2 and source.bytes(first, math.min(64, last - first)):find("shared_memory", 1, true) then
      tensor.shared = true
    end
  end)
  if not whole or tensor.broken then return nil end
  return tensor
end

-- What a gRPC message asks for. The same field twice is refused: who reads which one is nobody's to guess.
local function asked_by_message(body, method)
  local kind = METHODS[method]
  if kind == "server" then return { kind = kind } end
  local source = body and reader(body) or { length = 0 }
  if source.length < 5 then return bad("the message is empty") end
  if source.byte(0) ~= 0 then return { code = "unsupported", text = "compressed messages are not taken" } end
  local b1, b2, b3, b4 = source.byte(1), source.byte(2), source.byte(3), source.byte(4)
  if ((b1 * 256 + b2) * 256 + b3) * 256 + b4 ~= source.length - 5 then
    return bad("the message is not as long as it says")
  end
  local asked = { kind = kind, version = "", inputs = {} }
  local seen, broken = {}, nil
  local whole = fields(source.byte, 5, source.length, function(field, wire, first, last)
    if (field == 1 or field == 2) and wire == 2 then
      if seen[field] then broken = "a name or version is given twice" end
      if last - first > 255 then broken = "a name or version is too long" return end
      seen[field] = true
      asked[field == 1 and "model" or "version"] = source.bytes(first, last - first)
    elseif kind == "infer" and (field == 5 or field == 6) and wire == 2 then
      local tensor = grpc_tensor(source, first, last)
      if not tensor then broken = "a tensor cannot be read"
      elseif tensor.shared then broken = "shared memory is not for callers of the gateway"
      elseif field == 5 then asked.inputs[#asked.inputs + 1] = tensor end
    end
  end)
  if not whole then return bad("the message cannot be read") end
  if broken then return bad(broken) end
  if not asked.model or not asked.model:match("^[%w][%w._-]*$") then return bad("the message names no model") end
  return asked
end

-- ------------------------------------------------------------------------------------------------ JSON over HTTP

local QUOTE, BACKSLASH, COLON, COMMA = 34, 92, 58, 44
local OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = 91, 93, 123, 125

-- The position of the quote that ends a string, and whether something is escaped in it.
local function string_end(text, at)
  local escaped = false
  while true do
    local one = text:byte(at)
    if not one then return nil end
    if one == QUOTE then return at, escaped end
    if one == BACKSLASH then
      escaped = true
      at = at + 1
    end
    at = at + 1
  end
end

local function shape_of(text)
  local shape = {}
  if text:match("^%s*$") then return shape end
  for part in (text .. ","):gmatch("([^,]*),") do
    local number = part:match("^%s*(%-?%d+)%s*$")
    if not number then return nil end
    shape[#shape + 1] = tonumber(number)
  end
  return shape
end

-- The inputs that a JSON request describes, and how deep it is; or nil and why it is refused. It is not a parser: what is
-- no JSON at all is left to Triton, which refuses it. Keys are compared as they stand, so none may hold an escape.
local function scan(text, depth_most)
  local at, length, depth = 1, #text, 0
  local root, key, inputs, current, named = nil, nil, {}, nil, false
  while at <= length do
    local one = text:byte(at)
    if one == QUOTE then
      local stop, escaped = string_end(text, at + 1)
      if not stop then return nil, "a string does not end" end
      local after = text:find("[^ \t\r\n]", stop + 1)
      if after and text:byte(after) == COLON then
        if depth <= 4 then
          if escaped then return nil, "the name of a field holds an escape" end
          local name = text:sub(at + 1, stop - 1)
          if name:find("shared_memory", 1, true) then return nil, "shared memory is not for callers of the gateway" end
          if depth == 1 then
            if name == "inputs" and named then return nil, "the inputs are given twice" end
            root, named = name, named or name == "inputs"
          elseif depth == 3 then
            key = name
          end
        end
        at = after
      else
        if depth == 3 and current and root == "inputs" and (key == "name" or key == "datatype") then
          if escaped then return nil, "the name of a tensor holds an escape" end
          if current[key] then return nil, "the " .. key .. " of an input is given twice" end
          current[key] = text:sub(at + 1, stop - 1)
        end
        at = stop
      end
    elseif one == OPEN_OBJECT or one == OPEN_LIST then
      depth = depth + 1
      if depth > depth_most then return nil, "the JSON is nested deeper than " .. depth_most end
      if root == "inputs" and depth == 3 and one == OPEN_OBJECT then
        current, key = {}, nil
        inputs[#inputs + 1] = current
      elseif root == "inputs" and depth == 4 and one == OPEN_LIST and key == "shape" and current then
        local stop = text:find("]", at, true)
        if not stop then return nil, "a list does not end" end
        if current.shape then return nil, "the shape of an input is given twice" end
        current.shape = shape_of(text:sub(at + 1, stop - 1))
        if not current.shape then return nil, "a shape is a list of whole numbers" end
        at, depth = stop, depth - 1
      end
    elseif one == CLOSE_OBJECT or one == CLOSE_LIST then
      depth = depth - 1
      if depth == 2 then current = nil end
    end
    at = at + 1
  end
  return inputs
end

-- The JSON in front of a body, or all of it; nil and why it cannot be.
local function json_part(handle, body)
  local size = handle:headers():get("inference-header-content-length")
  if not size then return body:getBytes(0, body:length()), 0 end
  local count = size:match("^%d+$") and #size <= 10 and tonumber(size) or -1
  if count < 0 then return nil, "Inference-Header-Content-Length is not a number of bytes: " .. size:sub(1, 20) end
  if count > body:length() then return nil, "Inference-Header-Content-Length is larger than the body" end
  return count == 0 and "" or body:getBytes(0, count), count
end

-- --------------------------------------------------------------------------------------------------------- checks

local function words(shape) return "[" .. table.concat(shape, ",") .. "]" end

local function expected(spec, model)
  local shape = {}
  if model.batch > 0 then shape[1] = "1 to " .. model.batch end
  for _, dim in ipairs(spec.dims) do shape[#shape + 1] = dim < 0 and "any" or tostring(dim) end
  return "[" .. table.concat(shape, ",") .. "]"
end

-- Whether an input cannot have this shape.
local function wrong_shape(tensor, spec, model)
  local shape, first = tensor.shape, model.batch > 0 and 1 or 0
  local elements = 1
  for _, dim in ipairs(shape) do
    if dim < 1 or dim > DIM_MOST then return true end
    elements = elements * dim
    if elements > ELEMENTS_MOST then return true end
  end
  if #shape ~= #spec.dims + first then return true end
  if first == 1 and shape[1] > model.batch then return true end
  for index, dim in ipairs(spec.dims) do
    if dim >= 0 and shape[index + first] ~= dim then return true end
  end
  return false
end

-- Why the inputs are not the model's; nil where they are.
local function wrong_inputs(inputs, model)
  local seen = {}
  for _, tensor in ipairs(inputs) do
    local name = tensor.name
    if not name then return "an input has no name" end
    local spec = model.inputs[name]
    if not spec then return "input '" .. name:sub(1, 63) .. "' is none of the model's: " .. model.names end
    if seen[name] then return "input '" .. name .. "' is given twice" end
    seen[name] = true
    if tensor.datatype ~= spec.datatype then
      return "input '" .. name .. "' is " .. spec.datatype .. ", not " .. tostring(tensor.datatype):sub(1, 20)
    end
    if not tensor.shape then return "input '" .. name .. "' has no shape" end
    if wrong_shape(tensor, spec, model) then
      return "input '" .. name .. "' has the shape " .. expected(spec, model) .. ", not " .. words(tensor.shape):sub(1, 80)
    end
  end
  for name, spec in pairs(model.inputs) do
    if not seen[name] and not spec.optional then return "input '" .. name .. "' is missing" end
  end
  return nil
end

-- ------------------------------------------------------------------------------------------------------ the answer

-- A number in [0, 100) that is the same for the same word.
local function share_of(word)
  local hash = 5381
  for index = 1, #word do hash = (hash * 33 + word:byte(index)) % 4294967296 end
  hash = (hash * 2654435 + 12345) % 4294967296
  return hash % 10000 / 100
end

-- The version that a call without one goes to: by the model's route, or Triton's own choice ("").
local function routed(model, tenant, headers)
  local route = model.route
  if not route then return "" end
  local at
  if route.sticky == "tenant" then at = share_of(tenant)
  elseif route.sticky ~= "" then
    local value = headers:get(route.sticky)
    at = value and share_of(value)
  end
  at = at or math.random() * 100
  for _, share in ipairs(route.shares) do
    if at < share.below then return share.version end
  end
  return route.shares[#route.shares].version
end

local function tail_of(asked)
  if asked.kind == "infer" then return "/infer" end
  return asked.kind == "ready" and "/ready" or ""
end

local function upstream_path(asked, version)
  return "/v2/models/" .. asked.model .. (version == "" and "" or "/versions/" .. version) .. tail_of(asked)
end

-- The message with another version: of a field that is there twice the last one counts, and ours comes last.
local function with_version(body, version)
  local message = body:getBytes(5, body:length() - 5) .. "\18" .. string.char(#version) .. version
  local size = #message
  return string.char(0, math.floor(size / 16777216) % 256, math.floor(size / 65536) % 256,
                     math.floor(size / 256) % 256, size % 256) .. message
end

-- The same request to a second version; its answer is not waited for, and reaches nobody.
local function shadow(handle, asked, body, version, grpc)
  local headers = { [":method"] = "POST", [":authority"] = "shadow" }
  local copied = { "content-type", "inference-header-content-length", "te" }
  for _, name in ipairs(copied) do headers[name] = handle:headers():get(name) end
  headers[":path"] = grpc and handle:headers():get(":path") or upstream_path(asked, version)
  local content = grpc and with_version(body, version) or body:getBytes(0, body:length())
  handle:httpCall(grpc and "triton_grpc" or "triton_http", headers, content, 10000, { asynchronous = true })
end

local function strip(headers)
  local gone = {}
  for name in pairs(headers) do
    if name:find("^triton") or name:find("^x%-modelport") or name == "grpc-timeout" or name == "accept-encoding" then
      gone[#gone + 1] = name
    end
  end
  for _, name in ipairs(gone) do headers:remove(name) end
end

-- Remember a request whose answer is captured too; of those that never got one, only a few are kept.
local function remember(handle, asked, body, version, header)
  if pending_count >= 32 then pending, pending_count = {}, 0 end
  local id = handle:headers():get("x-request-id")
  if not id then return end
  pending[id] = { model = asked.model, version = version, content = body:getBytes(0, body:length()), json = header }
  pending_count = pending_count + 1
  handle:streamInfo():dynamicMetadata():set(MARK, "captured", id)
end

local function allowed(claims, model)
  for _, name in ipairs(claims.models or {}) do
    if name == "*" or name == model then return true end
  end
  return false
end

local function note(handle, key, value) handle:streamInfo():dynamicMetadata():set(MARK, key, value) end

-- What Envoy hands out (headers, metadata) holds only until the next wait, which `body` is: it is asked for anew after it.
function envoy_on_request(handle)
  local headers = handle:headers()
  strip(headers)
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local claims = found and found["claims"]
  if not claims or DATA.revoked[claims.jti] then return refuse(handle, "forbidden") end
  local content_type = headers:get("content-type")
  local grpc = content_type and content_type:find("^application/grpc") ~= nil
  local encoding, grpc_encoding = headers:get("content-encoding"), headers:get("grpc-encoding")
  if (encoding and encoding ~= "identity") or (grpc_encoding and grpc_encoding ~= "identity") then
    return refuse(handle, "unsupported", "compressed requests are not taken")
  end
  local asked, body, header
  if grpc then
    local method = headers:get(":path"):match("^/inference%.GRPCInferenceService/(%w+)$")
    if not method or not METHODS[method] then return refuse(handle, "not_found") end
    body = handle:body()
    asked = asked_by_message(body, method)
    if asked.code then return refuse(handle, asked.code, asked.text) end
  else
    asked = asked_by_path(headers:get(":method"), headers:get(":path"))
    if not asked then return refuse(handle, "not_found") end
  end
  note(handle, "kind", asked.kind)
  headers = handle:headers()
  if asked.kind == "server" then
    if not grpc then headers:replace(":path", asked.path) end
    headers:replace(PASS, DATA.secret)
    return
  end
  if not allowed(claims, asked.model) then return refuse(handle, "forbidden") end
  local model = DATA.models[asked.model]
  if not model then return refuse(handle, "not_found", "there is no model '" .. asked.model:sub(1, 63) .. "'") end
  local version = asked.version
  if version ~= "" and not version:match("^[1-9]%d*$") then
    version = model.aliases[version]
    if not version then return refuse(handle, "not_found", "the model has no version '" .. asked.version:sub(1, 63) .. "'") end
  elseif version == "" then
    version = routed(model, claims.sub, headers)
  end
  note(handle, "model", asked.model)
  note(handle, "version", version)
  if asked.kind == "infer" then
    local inputs, why = asked.inputs, nil
    if not grpc then
      body = handle:body()
      if not body then return refuse(handle, "bad_request", "the request has no body") end
      local text
      text, header = json_part(handle, body)
      if not text then return refuse(handle, "bad_request", header) end
      inputs, why = scan(text, DATA.depth)
      if not inputs then return refuse(handle, "bad_request", why) end
    end
    local most = DATA.bodies[claims.sub]
    if most and body:length() > most then return refuse(handle, "too_large", "the request is larger than " .. most .. " bytes") end
    why = wrong_inputs(inputs, model)
    if why then return refuse(handle, "bad_request", why) end
    if model.shadow and model.shadow ~= version then shadow(handle, asked, body, model.shadow, grpc) end
    if model.capture and math.random() < model.capture then remember(handle, asked, body, version, header or 0) end
  end
  headers = handle:headers()
  if not grpc then
    headers:replace(":path", upstream_path(asked, version))
  elseif version ~= asked.version then
    headers:replace("content-length", tostring(body:setBytes(with_version(body, version))))
  end
  headers:replace(PASS, DATA.secret)
end

-- ---------------------------------------------------------------------------------------------------- the way back

local OURS = { ["500"] = "internal", ["501"] = "internal", ["502"] = "unavailable", ["503"] = "overloaded",
               ["504"] = "timeout" }
local GRPC_OURS = { ["2"] = "internal", ["13"] = "internal", ["14"] = "overloaded", ["4"] = "timeout" }

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(one) return string.format("\\u%04x", one:byte()) end) .. '"'
end

local function replace_body(handle, text)
  handle:body(true):setBytes(text)
  handle:headers():replace("content-type", "application/json")
  handle:headers():replace("content-length", tostring(#text))
  handle:headers():remove("inference-header-content-length")
end

local function capture(handle, kept, status)
  local body = handle:body(true)
  local answer = body:length() == 0 and "" or body:getBytes(0, body:length())
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local content_type = handle:headers():get("content-type")
  handle:httpCall("capture", {
    [":method"] = "POST", [":path"] = "/", [":authority"] = "capture",
    ["x-model"] = kept.model, ["x-version"] = kept.version, ["x-tenant"] = found["claims"].sub,
    ["x-protocol"] = content_type and content_type:find("^application/grpc") and "grpc" or "http",
    ["x-status"] = status, ["x-request-length"] = tostring(#kept.content), ["x-request-json"] = tostring(kept.json),
    ["x-answer-json"] = handle:headers():get("inference-header-content-length") or "0",
  }, kept.content .. answer, 1000, { asynchronous = true })
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local info = handle:streamInfo():dynamicMetadata():get(MARK)
  if headers:get("x-modelport-local") then -- Envoy's answer or ours: it is as it should be
    headers:remove("x-modelport-local")
    local said = headers:get("grpc-message") -- the JSON of a refusal: over gRPC its text is the message, its code a header
    if said then
      headers:replace("modelport-code", said:match('"code":"([%w_]+)"') or "internal")
      headers:replace("grpc-message", said:match('"error":"(.*)"') or said)
    end
    if headers:get("x-modelport-quota") then
      headers:replace("retry-after", tostring(86400 - os.time() % 86400))
      headers:remove("x-modelport-quota")
      if said then
        headers:replace("modelport-code", "quota_exceeded")
        headers:replace("grpc-message", TEXT.quota)
      else
        replace_body(handle, '{"code":"quota_exceeded","error":"' .. TEXT.quota .. '"}')
      end
    end
    return
  end
  local status, grpc_status = headers:get(":status"), headers:get("grpc-status")
  if grpc_status and GRPC_OURS[grpc_status] then
    headers:replace("grpc-message", TEXT[GRPC_OURS[grpc_status]])
  elseif OURS[status] then
    local code = OURS[status]
    if status == "503" then headers:replace("retry-after", "1") end
    replace_body(handle, '{"code":"' .. code .. '","error":' .. quoted(TEXT[code]) .. "}")
  elseif tonumber(status) >= 400 then
    local body = handle:body(true)
    local text = body:length() > 0 and body:getBytes(0, math.min(2048, body:length())) or ""
    local said = text:match('^%s*{"error":(".*")}%s*$')
    local code = status == "404" and "not_found" or "bad_request"
    replace_body(handle, '{"code":"' .. code .. '","error":' .. (said or quoted("the request is refused")) .. "}")
  end
  if info and info["captured"] then
    local kept = pending[info["captured"]]
    pending[info["captured"]] = nil
    if kept then
      pending_count = pending_count - 1
      capture(handle, kept, status)
    end
  end
end
