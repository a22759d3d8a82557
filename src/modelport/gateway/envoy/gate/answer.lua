-- The way back: words of a failure are ours, and a captured answer goes to its keeper.

local OURS = { ["500"] = "internal", ["501"] = "internal", ["502"] = "unavailable", ["503"] = "overloaded",
               ["504"] = "timeout" }
local GRPC_OURS = { ["4"] = "timeout", ["8"] = "overloaded", ["14"] = "overloaded" }
local GRPC_KEPT = { ["3"] = "bad_request", ["5"] = "not_found" } -- whose text says what is wrong with the request

local function replace_body(handle, text)
  handle:body(true):setBytes(text)
  handle:headers():replace("content-type", "application/json")
  handle:headers():replace("content-length", tostring(#text))
  handle:headers():remove("inference-header-content-length")
end

-- The bytes of an answer, which goes on to its caller meanwhile; nil for one that is too large to be kept.
local function answer_of(handle, failed)
  if failed then
    local body = handle:body(true)
    return body:length() == 0 and "" or body:getBytes(0, body:length())
  end
  local pieces, size = {}, 0
  for chunk in handle:bodyChunks() do
    size = size + chunk:length()
    if size > CAPTURED_MOST then return nil end
    if chunk:length() > 0 then pieces[#pieces + 1] = chunk:getBytes(0, chunk:length()) end
  end
  return table.concat(pieces)
end

local function capture(handle, kept, status, grpc)
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local about = {
    [":method"] = "POST", [":path"] = "/", [":authority"] = "capture",
    ["x-model"] = kept.model, ["x-version"] = kept.version, ["x-tenant"] = found["claims"].sub,
    ["x-protocol"] = grpc and "grpc" or "http",
    ["x-status"] = status, ["x-request-length"] = tostring(#kept.content), ["x-request-json"] = tostring(kept.json),
    ["x-answer-json"] = handle:headers():get("inference-header-content-length") or "0",
  }
  local answer = answer_of(handle, not grpc and status ~= "200")
  if answer then handle:httpCall("capture", about, kept.content .. answer, 1000, true) end
end

-- The same request to a second version; its answer is not waited for, and reaches nobody. The time is longer than any run
-- lasts: a call over gRPC that is cancelled may end Triton.
local COPY_MS = 150000
local function shadow(handle, kept, grpc)
  local content = grpc and with_version(kept.content, kept.shadow) or kept.content
  handle:httpCall(grpc and "shadow_grpc" or "shadow_http", kept.headers, content, COPY_MS, true)
end

-- The words of a failure over gRPC, in headers or in trailers.
local function grpc_words(headers)
  local status = headers:get("grpc-status")
  if not status or status == "0" then return end
  if status == "13" and headers:get("grpc-message") == "Unable to parse request" then
    status = GRPC_STATUS.bad_request
    headers:replace("grpc-status", status)
    headers:replace("grpc-message", "the message cannot be read")
  end
  if status == "8" then headers:replace("grpc-status", GRPC_STATUS.overloaded) end -- a server's limit, no tenant's
  local code = GRPC_KEPT[status] or GRPC_OURS[status] or "internal"
  if not GRPC_KEPT[status] then headers:replace("grpc-message", TEXT[code]) end
  headers:remove("grpc-status-details-bin")
  headers:replace("modelport-code", code)
end

-- Triton answers 500 where a request's JSON cannot be read. Only words that it writes itself are taken for that.
local function callers_fault(said)
  local why = said:match("^failed to parse the request JSON buffer: ([%a '%]},]+%. at %d+)$")
  if why then return "the JSON cannot be read: " .. why end
  if said == "failed to get request params.: attempt to get members for non-object" then return "the parameters are no object" end
  local field, what = said:match("^Unable to %l+ '([%l_]+)': ([%a '-]+)$") -- to parse, and to set
  return field and ("the field '" .. field .. "' cannot be read: " .. what)
end

-- What stands in an error of Triton's, still escaped as in JSON; nil where it would not be JSON in ours.
local function said_in(text)
  local said = text:match('^%s*{"error":"(.*)"}%s*$')
  if not said then return nil end
  local bare = said:gsub('\\["\\/bfnrt]', ""):gsub("\\u%x%x%x%x", "")
  if bare:find('["\\]') or not is_utf8(ffi.cast("const uint8_t *", said), 0, #said) then return nil end
  return (said:gsub("%c", function(one) return ("\\u%04x"):format(one:byte()) end))
end

-- The words of a failure over HTTP: what is wrong with the request is Triton's to say, what is wrong behind it is not.
local function http_words(handle, status)
  local body = handle:body(true)
  local text = body:length() > 0 and body:getBytes(0, math.min(2048, body:length())) or ""
  local said = said_in(text)
  local fault = status == "500" and said and callers_fault(said)
  if fault then
    status, said = "400", fault
    handle:headers():replace(":status", status)
  elseif status == "429" then -- a server's limit, no tenant's
    status = "503"
    handle:headers():replace(":status", status)
  end
  local code = status == "404" and "not_found" or "bad_request"
  if status == "503" then handle:headers():replace("retry-after", "1") end
  if tonumber(status) >= 500 then
    code = OURS[status] or "internal"
    said = TEXT[code]
  end
  replace_body(handle, '{"code":"' .. code .. '","error":"' .. (said or "the request is refused") .. '"}')
end

function envoy_on_response(handle)
  local info = pending_count > 0 and handle:streamInfo():dynamicMetadata():get(MARK)
  local kept = info and info["pending"] and forget(info["pending"])
  local headers = handle:headers()
  if headers:get("x-modelport-local") then -- Envoy's answer or ours: it is as it should be
    headers:remove("x-modelport-local")
    if headers:get("www-authenticate") then headers:replace("www-authenticate", 'Bearer realm="modelport"') end
    local said = headers:get("grpc-message") -- the JSON of a refusal: over gRPC its text is the message, its code a header
    if said then
      local code = said:match('"code":"([%w_]+)"') or "internal"
      headers:replace("modelport-code", code)
      headers:replace("grpc-message", ((said:match('"error":"(.*)"') or said):gsub("\\(.)", "%1")))
      if GRPC_STATUS[code] then headers:replace("grpc-status", GRPC_STATUS[code]) end
    end
    if headers:get("x-modelport-rate") then -- less than one request a second: the next one comes later
      headers:remove("x-modelport-rate")
      local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
      local wait_s = found and found["claims"] and DATA.waits[found["claims"].sub]
      if wait_s then headers:replace("retry-after", tostring(wait_s)) end
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
  local status, grpc = headers:get(":status"), (headers:get("content-type") or ""):find("^application/grpc") ~= nil
  if grpc then -- so it says; by the request it is known
    local asked = handle:streamInfo():dynamicMetadata():get(MARK)
    grpc = asked ~= nil and asked["grpc"] ~= nil
    if not grpc then status = "502" end
  end
  if tonumber(status) >= 300 and tonumber(status) < 400 then status = "502" end -- nobody is sent elsewhere
  if status == "502" then
    headers:replace(":status", status)
    headers:remove("grpc-status")
    headers:remove("grpc-message")
  end
  if grpc then
    grpc_words(headers)
  elseif tonumber(status) >= 400 then
    http_words(handle, status)
  end
  if kept and kept.shadow then shadow(handle, kept, grpc) end
  if kept and kept.captured then capture(handle, kept, handle:headers():get(":status"), grpc) end
  if grpc then
    local trailers = handle:trailers()
    if trailers then grpc_words(trailers) end
  end
end
