-- What a request describes, compared with the model.

local function words(shape)
  local said = {}
  for index, dim in ipairs(shape) do said[index] = math.abs(dim) < 2 ^ 53 and ("%d"):format(dim) or "out of range" end
  return "[" .. table.concat(said, ",") .. "]"
end

local function expected(spec, model)
  local shape = {}
  if model.batch > 0 then shape[1] = "1 to " .. model.batch end
  for _, dim in ipairs(spec.dims) do shape[#shape + 1] = dim < 0 and "any" or tostring(dim) end
  return "[" .. table.concat(shape, ",") .. "]"
end

-- The elements of an input; nil where it cannot have this shape.
local function elements_of(shape, spec, model)
  local first, elements = model.batch > 0 and 1 or 0, 1
  if #shape ~= #spec.dims + first or (first == 1 and shape[1] > model.batch) then return nil end
  for _, dim in ipairs(shape) do
    if dim < 1 or dim > DIM_MOST then return nil end
    elements = elements * dim
  end
  for index, dim in ipairs(spec.dims) do
    if dim >= 0 and shape[index + first] ~= dim then return nil end
  end
  return elements
end

-- How many rows and elements the inputs have; or nil and why they are not the model's.
local function checked(inputs, model)
  local seen, rows, all = {}, 1, 0
  for _, tensor in ipairs(inputs) do
    local name = tensor.name
    if not name then return nil, "an input has no name" end
    local spec = model.inputs[name]
    if not spec then return nil, "input '" .. name:sub(1, 63) .. "' is none of the model's: " .. model.names end
    if seen[name] then return nil, "input '" .. name .. "' is given twice" end
    seen[name] = true
    if tensor.datatype ~= spec.datatype then
      return nil, "input '" .. name .. "' is " .. spec.datatype .. ", not " .. tostring(tensor.datatype):sub(1, 20)
    end
    if not tensor.shape then return nil, "input '" .. name .. "' has no shape" end
    local elements = elements_of(tensor.shape, spec, model)
    if not elements then
      return nil, "input '" .. name .. "' has the shape " .. expected(spec, model) .. ", not " .. words(tensor.shape):sub(1, 80)
    end
    all = all + elements
    if model.batch > 0 then rows = tensor.shape[1] end
  end
  for name, spec in pairs(model.inputs) do
    if not seen[name] and not spec.optional then return nil, "input '" .. name .. "' is missing" end
  end
  return { rows = rows, elements = all, model = model }
end

-- The same of a request's JSON. Where the data is binary the JSON only describes it, in the same few words each time: what
-- was found about those is kept.
local KNOWN_MOST, KNOWN_BYTES = 256, 1024
local known, known_count = {}, 0
local function checked_json(text, model, is_header)
  local found = known[text]
  if found and found.model == model then return found end
  local inputs, why = scan(text, DATA.depth)
  if not inputs then return nil, why end
  found, why = checked(inputs, model)
  if found and is_header and #text <= KNOWN_BYTES then
    if known_count >= KNOWN_MOST then known, known_count = {}, 0 end
    known[text], known_count = found, known_count + 1
  end
  return found, why
end

-- An element takes at least a byte: shapes for more than the body holds would make Triton take the memory before it sees that.
local TOO_FEW = "what is described has more elements than the request has bytes: %.0f"
