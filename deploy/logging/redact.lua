-- The last thing between the service's logs and where they are kept. The service writes no code and no key; should it
-- ever, or should something else write into its stream, this lets nothing through but the fields listed here, and masks
-- what looks like a secret in those that hold sentences. tests/deploy/test_logging.py runs it.

local function set(names)
    local found = {}
    for name in names:gmatch("%S+") do found[name] = true end
    return found
end

-- numbers, names, identifiers
local PLAIN = set([[
    ts level logger request_id trace_id completion key model version previous serving kind percent dependency
    method route status protocol tls limited replica replica_status replica_first_byte_s duration_s
    stream finish_reason choices prompt_chars suffix_chars prompt_tokens cached_tokens completion_tokens
    bytes_in bytes_out ttft_ms queue_ms prefill_ms decode_ms duration_ms in_flight records port exception
    event_loop_s engine_s pod container
]])
-- sentences, and lists of places in the source
local TEXT = set("event reason problem at path")

local MASK = "***"
local LONGEST = 500

-- `text` without passwords of URLs, values of credentials, and long runs of letters and digits
local function masked(text)
    text = text:sub(1, LONGEST)
    text = text:gsub("(://[^/@:%s]*):[^/@%s]*@", "%1:" .. MASK .. "@")
    text = text:gsub("([Bb][Ee][Aa][Rr][Ee][Rr]%s+)%S+", "%1" .. MASK)
    text = text:gsub("([Pp][Aa][Ss][Ss][Ww][Oo][Rr][Dd]%s*[=:]%s*)[^%s&,;]+", "%1" .. MASK)
    text = text:gsub("([Tt][Oo][Kk][Ee][Nn]%s*[=:]%s*)[^%s&,;]+", "%1" .. MASK)
    text = text:gsub("([Kk][Ee][Yy]%s*[=:]%s*)[^%s&,;]+", "%1" .. MASK)
    -- longer than an identifier, and no path
    return (text:gsub("[%w_+=-]+", function(word) if #word > 32 then return MASK end end))
end

local function value_of(name, value)
    local kind = type(value)
    if kind == "number" or kind == "boolean" then return value end
    if kind == "string" then
        if TEXT[name] then return masked(value) end
        -- names and identifiers have no spaces and quotes in them; code has
        value = value:gsub(", ", ",")
        if not value:find("^[%w_.,:/{}@+-]*$") then return MASK end
        return (value:sub(1, 128):gsub("mf_%x+_%x+", MASK):gsub("(://[^/@:]*):[^/@]*@", "%1:" .. MASK .. "@"))
    end
    if kind == "table" and TEXT[name] then
        local found = {}
        for index, item in ipairs(value) do
            if type(item) == "string" then found[index] = masked(item) end
        end
        return found
    end
    return nil
end

-- Fluent Bit's filter: code 2 is "the record is another, its time is the same"
function redact(_, timestamp, record)
    local kept = {}
    for name, value in pairs(record) do
        if PLAIN[name] or TEXT[name] then kept[name] = value_of(name, value) end
    end
    -- a line that is no JSON (a traceback, another program's): that there was one, and nothing of it
    if record.log ~= nil and kept.event == nil then
        kept.event = "line without structure"
        kept.bytes_out = #tostring(record.log)
    end
    return 2, timestamp, kept
end
