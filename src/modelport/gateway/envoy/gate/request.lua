-- The way in: who asks for what, which version it goes to, and what Triton gets of it.

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
  if route.by_tenant then at = share_of(tenant)
  elseif route.by_header then
    local value = headers:get(route.by_header)
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
local function with_version(content, version)
  local message = content:sub(6) .. "\18" .. string.char(#version) .. version
  local size = #message
  return string.char(0, math.floor(size / 16777216) % 256, math.floor(size / 65536) % 256,
                     math.floor(size / 256) % 256, size % 256) .. message
end

-- The headers of the same request to a second version.
local function shadow_headers(handle, asked, version, grpc)
  local headers = { [":method"] = "POST", [":authority"] = "shadow" }
  local copied = { "content-type", "inference-header-content-length", "te" }
  for _, name in ipairs(copied) do headers[name] = handle:headers():get(name) end
  headers[":path"] = grpc and handle:headers():get(":path") or upstream_path(asked, version)
  return headers
end

local function strip(headers)
  local gone
  for name in pairs(headers) do
    if not KEPT[name] and name:byte() ~= COLON then
      gone = gone or {}
      gone[#gone + 1] = name
    end
  end
  if gone then
    for _, name in ipairs(gone) do headers:remove(name) end
  end
end

-- What was remembered under an id, which is forgotten now.
local function forget(id)
  local kept = pending[id]
  if kept then
    pending[id], pending_count, pending_bytes = nil, pending_count - 1, pending_bytes - #kept.content
  end
  return kept
end

-- Remember a request until a server has answered it. One that is refused in between, for a quota or because too many are on
-- their way, costs nobody a computation or a place on the disk.
local function remember(handle, kept)
  local id = handle:headers():get("x-request-id")
  if not id then return end
  kept.since = os.time()
  pending[id], pending_count, pending_bytes = kept, pending_count + 1, pending_bytes + #kept.content
  turn_last = turn_last + 1
  turns[turn_last] = id
  while turn_first < turn_last do
    local oldest = pending[turns[turn_first]]
    if oldest and pending_count <= PENDING_MOST and pending_bytes <= PENDING_BYTES
       and os.difftime(kept.since, oldest.since) < PENDING_S then break end
    forget(turns[turn_first])
    turns[turn_first], turn_first = nil, turn_first + 1
  end
  handle:streamInfo():dynamicMetadata():set(MARK, "pending", id)
end

-- Whether a word is a version's number, as `spec.parse_version` takes it.
local function is_number(word)
  return #word <= 10 and word:match("^[1-9]%d*$") ~= nil and tonumber(word) <= VERSION_MOST
end

local function allowed(claims, model)
  for _, name in ipairs(claims.models or {}) do
    if name == "*" or name == model then return true end
  end
  return false
end

local function note(handle, key, value) handle:streamInfo():dynamicMetadata():set(MARK, key, value) end

-- What is asked for over gRPC, and the body; or nil, why it is refused, and in which words.
local function asked_by_grpc(handle, headers, content_type)
  if not (content_type .. ";"):find("^application/grpc;") and not (content_type .. ";"):find("^application/grpc%+proto;") then
    return nil, "unsupported", "of gRPC only application/grpc is taken"
  end
  local method = (headers:get(":path") or ""):match("^/inference%.GRPCInferenceService/(%w+)$")
  if not method or not METHODS[method] or headers:get(":method") ~= "POST" then return nil, "not_found" end
  local body = handle:body()
  local asked = asked_by_message(body, method)
  if asked.code then return nil, asked.code, asked.text end
  return asked, body
end

-- The same over HTTP.
local function asked_by_http(handle, headers)
  local asked = asked_by_path(headers:get(":method"), headers:get(":path") or "")
  if not asked then return nil, "not_found" end
  local body = handle:body()
  if (body ~= nil and body:length() > 0) ~= (asked.kind == "infer") then
    return nil, "bad_request", asked.kind == "infer" and "the request has no body" or "the request has a body"
  end
  return asked, body
end

local function encoded(headers, grpc)
  local by = headers:get(grpc and "grpc-encoding" or "content-encoding")
  return by ~= nil and by ~= "identity"
end

-- An OpenAPI document whose paths are those of the documents of the models that a key allows.
local function index_of(claims)
  local names, paths = {}, {}
  for name in pairs(DATA.models) do
    if allowed(claims, name) then names[#names + 1] = name end
  end
  table.sort(names)
  for index, name in ipairs(names) do
    paths[index] = ('"/v2/models/%s/infer":{"$ref":"models/%s/openapi.json#/paths/~1v2~1models~1%s~1infer"}')
      :format(name, name, name)
  end
  return '{"openapi":"3.1.0","info":{"title":"Models","version":"1","description":"What this key allows; each path '
    .. 'leads to the document of its model."},"paths":{' .. table.concat(paths, ",") .. "}}"
end

-- What a model says of itself: a small file that the gateway has written (documents.py), in Envoy's working folder.
local function describe(handle, claims, name)
  local text
  if name then
    if not allowed(claims, name) then return refuse(handle, "forbidden") end
    local file = DATA.models[name] and io.open("openapi/" .. name .. ".json", "rb")
    if not file then return refuse(handle, "not_found", "there is no model '" .. name:sub(1, 63) .. "'") end
    text = file:read("*a")
    file:close()
    note(handle, "model", name)
  else
    text = index_of(claims)
  end
  handle:respond({ [":status"] = "200", ["content-type"] = "application/json" }, text)
end

-- What Envoy hands out (headers, metadata) holds only until the next wait, which `body` is: it is asked for anew after it.
function envoy_on_request(handle)
  local headers = handle:headers()
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local claims = found and found["claims"]
  if not claims or not claims.jti then return refuse(handle, "forbidden") end
  if headers:get("upgrade") then return refuse(handle, "bad_request", "there is no other protocol to upgrade to") end
  local content_type = headers:get("content-type") or ""
  local grpc = content_type:find("^application/grpc") ~= nil
  if encoded(headers, grpc) then return refuse(handle, "unsupported", "compressed requests are not taken") end
  local asked, body, words_of_it
  if grpc then asked, body, words_of_it = asked_by_grpc(handle, headers, content_type)
  else asked, body, words_of_it = asked_by_http(handle, headers) end
  if not asked then return refuse(handle, body, words_of_it) end
  note(handle, "kind", asked.kind)
  if grpc then note(handle, "grpc", "1") end
  headers = handle:headers()
  if asked.kind == "server" then
    strip(headers)
    if not grpc then headers:replace(":path", asked.path) end
    headers:replace(PASS, DATA.secret)
    return
  end
  if asked.kind == "openapi" then return describe(handle, claims, asked.model) end
  if not allowed(claims, asked.model) then return refuse(handle, "forbidden") end
  local model = DATA.models[asked.model]
  if not model then return refuse(handle, "not_found", "there is no model '" .. asked.model:sub(1, 63) .. "'") end
  local version = asked.version
  if version ~= "" and not is_number(version) then
    version = model.aliases[version]
    if not version then return refuse(handle, "not_found", "the model has no version '" .. asked.version:sub(1, 63) .. "'") end
  elseif version == "" then
    version = routed(model, claims.sub, headers)
    if version ~= "" then note(handle, "drawn", "1") end
  end
  note(handle, "model", asked.model)
  note(handle, "version", version)
  local header
  if asked.kind == "infer" then
    local most = DATA.bodies[claims.sub]
    if most and body:length() > most then return refuse(handle, "too_large", "the request is larger than " .. most .. " bytes") end
    local described, why
    if grpc then
      described, why = checked(asked.inputs, model)
    else
      local text
      text, header = json_part(handle, body)
      if not text then return refuse(handle, "bad_request", header) end
      described, why = checked_json(text, model, header > 0)
    end
    if described and described.elements > body:length() then why = TOO_FEW:format(described.elements) end
    if why then return refuse(handle, "bad_request", why) end
    note(handle, "inferences", ("%d"):format(described.rows)) -- as a number, Envoy writes a million as 1e+06
    local copied = model.shadow and model.shadow ~= version
    local captured = model.capture and math.random() < model.capture
    if copied or captured then
      remember(handle, {
        model = asked.model, version = version, content = body:getBytes(0, body:length()), json = header or 0,
        captured = captured, shadow = copied and model.shadow,
        headers = copied and shadow_headers(handle, asked, model.shadow, grpc),
      })
    end
  end
  headers = handle:headers()
  strip(headers)
  if not grpc then
    headers:replace(":path", upstream_path(asked, version))
    if body then headers:replace("content-length", tostring(body:length())) end -- never in chunks
  elseif version ~= asked.version then
    headers:replace("content-length", tostring(body:setBytes(with_version(body:getBytes(0, body:length()), version))))
  end
  if asked.kind == "infer" then
    note(handle, "passed", "1") -- it counts for the quota, unless that is used up
    local turnstile = DATA.turnstiles[claims.sub]
    if turnstile then
      note(handle, "turnstile", "1")
      headers:replace("x-modelport-turnstile", turnstile)
    end
  end
  headers:replace(PASS, DATA.secret)
end
