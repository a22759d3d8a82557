-- The JSON of a request over HTTP: what it describes, read without building it.

local QUOTE, BACKSLASH, COLON = 34, 92, 58
local OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = 91, 93, 123, 125
local MARKS, IN_STRING = '[]{}"NI', '"\\' -- N and I: of NaN and Infinity, which are no JSON but which Triton takes
local SHARED, TWICE = "shared memory is not for callers of the gateway", "the %s of an input is given twice"

-- Where the quote is that ends a string, and whether something is escaped in it; nil where none does. Counted from 0.
local function string_end(bytes, at, length)
  local escaped = false
  while true do
    at = at + tonumber(strcspn(bytes + at, IN_STRING))
    if at >= length or bytes[at] == 0 then return nil end
    if bytes[at] == QUOTE then return at, escaped end
    escaped = true
    at = at + 2
    if at > length then return nil end
  end
end

-- Where the next byte is that is no blank; the text ends with a zero, which is none.
local function past_blanks(bytes, at)
  while bytes[at] == 32 or (bytes[at] >= 9 and bytes[at] <= 13) do at = at + 1 end
  return at
end

-- Whether the bytes from `at` on are UTF-8 (RFC 3629): Triton takes any.
local function is_utf8(bytes, at, stop)
  while at < stop do
    local one = bytes[at]
    local more = one < 128 and 0 or one < 194 and -1 or one < 224 and 1 or one < 240 and 2 or one < 245 and 3 or -1
    if more < 0 or at + more >= stop then return false end
    if more > 1 then -- neither longer than it needs to be, nor half of a pair, nor beyond U+10FFFF
      local two = bytes[at + 1]
      if (one == 224 and two < 160) or (one == 237 and two > 159) then return false end
      if (one == 240 and two < 144) or (one == 244 and two > 143) then return false end
    end
    for next = at + 1, at + more do
      if bytes[next] < 128 or bytes[next] > 191 then return false end
    end
    at = at + more + 1
  end
  return true
end

-- A list of whole numbers; nil for anything else.
local function shape_of(text)
  local shape = {}
  if text:find("^%s*$") then return shape end
  for part in (text .. ","):gmatch("([^,]*),") do
    local number = part:match("^%s*(%-?%d+)%s*$")
    if not number or #shape >= RANK_MOST then return nil end
    shape[#shape + 1] = tonumber(number)
  end
  return shape
end

-- What is remembered while a request's JSON is read: `key` is the last name of a field at each depth that matters.
local function named(state, name, depth, escaped)
  if escaped then return "the name of a field holds an escape" end
  if name:find("shared_memory", 1, true) then return SHARED end
  if depth == 1 then
    if name == "inputs" and state.given then return "the inputs are given twice" end
    state.given = state.given or name == "inputs"
    state.in_inputs = name == "inputs"
  elseif depth == 3 then
    state.key = name
  end
end

local function given(state, text, escaped)
  local current, key = state.current, state.key
  if not (state.in_inputs and current and (key == "name" or key == "datatype")) then return nil end
  if escaped then return "the " .. key .. " of an input holds an escape" end
  if current[key] then return TWICE:format(key) end
  current[key] = text
end

-- A list or object that begins; gives where to go on when it was read as a whole.
local function opened(state, text, at, depth, is_object)
  if not state.in_inputs then return nil end
  if depth == 3 and is_object then
    if #state.inputs >= TENSORS_MOST then return nil, "there are too many inputs" end
    state.current, state.key = {}, nil
    state.inputs[#state.inputs + 1] = state.current
  elseif depth == 4 and not is_object and state.key == "shape" and state.current then
    if state.current.shape then return nil, TWICE:format("shape") end
    local stop = text:find("]", at + 1, true)
    state.current.shape = stop and shape_of(text:sub(at + 2, stop - 1))
    if not state.current.shape then return nil, "a shape is a list of at most " .. RANK_MOST .. " whole numbers" end
    return stop - 1
  end
end

-- The inputs that a JSON request describes; or nil and why it is refused. It is not a parser: what is no JSON at all is
-- left to Triton, which refuses it. Names are compared as they stand, so none that counts may hold an escape.
local function scan(text, depth_most)
  local bytes, length = ffi.cast("const uint8_t *", text), #text
  local at, depth, why, stop, escaped = past_blanks(bytes, 0), 0, nil, nil, nil
  if bytes[at] ~= OPEN_OBJECT then return nil, "the request is no JSON object" end
  local state = { inputs = {} }
  while at < length do
    local one = bytes[at]
    if one == QUOTE then
      stop, escaped = string_end(bytes, at + 1, length)
      if not stop then return nil, "a string does not end" end
      if not is_utf8(bytes, at + 1, stop) then return nil, "the JSON is not UTF-8" end
      if depth <= 4 then
        if bytes[past_blanks(bytes, stop + 1)] == COLON then
          why = named(state, text:sub(at + 2, stop), depth, escaped)
        elseif depth == 3 then
          why = given(state, text:sub(at + 2, stop), escaped)
        end
      end
      at = stop
    elseif one == OPEN_OBJECT or one == OPEN_LIST then
      depth = depth + 1
      if depth > depth_most then return nil, "the JSON is nested deeper than " .. depth_most end
      if depth == 3 or depth == 4 then
        stop, why = opened(state, text, at, depth, one == OPEN_OBJECT)
        if stop then at, depth = stop, depth - 1 end
      end
    elseif one == CLOSE_OBJECT or one == CLOSE_LIST then
      depth = depth - 1
      if depth == 2 then state.current = nil end
      if depth == 0 then break end
    else
      return nil, one == 0 and "the JSON holds a byte that is zero" or "NaN and Infinity are no JSON: send the data raw"
    end
    if why then return nil, why end
    at = at + 1
    at = at + tonumber(strcspn(bytes + at, MARKS))
  end
  if depth ~= 0 then return nil, "the JSON does not end" end
  if past_blanks(bytes, at + 1) ~= length then return nil, "there is something behind the JSON" end
  return state.inputs
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
