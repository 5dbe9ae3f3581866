-- One turn of one process in one queue; see Ask and Turn in sending/shared/store.py.
--
-- KEYS: held (token -> moment it is back), line (process -> place), due (process -> moment its ticket lapses), state.
-- ARGV: the ask as JSON.
local VERSION = 1
local SOON = 20000    -- when to come again for a token that is free and that somebody in front is about to take
local PLACES = 4294967296  -- places of one priority
local held, line, due, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ask = cjson.decode(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local info = redis.pcall('INFO', 'server')
-- Where INFO is not allowed, only the serial number tells of lost state.
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''

local known = redis.call('HMGET', state,
    'version', 'run', 'epoch', 'serial', 'at', 'place', 'hold', 'pause', 'requests', 'per', 'held')
local function number(index) return tonumber(known[index] or 0) end
if known[1] and number(1) ~= VERSION then return {2, number(1)} end
local epoch, serial, at, place, hold, pause = number(3), number(4), number(5), number(6), number(7), number(8)

-- The clock went back: what is left of each duration stays as it was at the last turn.
if now < at then
    local back = at - now
    for _, set in ipairs({held, due}) do
        local members = redis.call('ZRANGE', set, 0, -1)
        for _, member in ipairs(members) do redis.call('ZINCRBY', set, -back, member) end
    end
    hold, pause = hold - back, pause - back
end

-- State that is new, of another server or of an older moment, or of which a part is missing (evicted).
local lost = known[1] and (known[2] ~= run or serial < ask.serial or number(11) ~= redis.call('ZCARD', held))
if not known[1] or lost or (ask.jumped and ask.epoch == epoch) then
    epoch = now > epoch and now or epoch + 1
    serial = math.max(serial, ask.serial)
    if known[1] or not ask.go then hold = math.max(hold, now + ask.hold) end
end
serial = serial + 1

local function token(index) return ask.process .. ':' .. index end
for _, pair in ipairs(ask.concluded) do
    if pair[2] > 0 then redis.call('ZADD', held, now + pair[2], token(pair[1]))
    else redis.call('ZREM', held, token(pair[1])) end
end
if ask.pause > 0 then pause = math.max(pause, now + ask.pause) end
redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
for _, process in ipairs(redis.call('ZRANGE', line, 0, -1)) do
    if tonumber(redis.call('ZSCORE', due, process) or 0) <= now then
        redis.call('ZREM', line, process)
        redis.call('ZREM', due, process)
    end
end

local requests, per = number(9), number(10)
local other = requests ~= ask.requests or per ~= ask.per
if other and requests > 0 and redis.call('ZCARD', held) + redis.call('ZCARD', line) > 0 then
    redis.call('HSET', state, 'version', VERSION, 'run', run, 'epoch', epoch, 'serial', serial, 'at', now,
        'hold', hold, 'pause', pause, 'held', redis.call('ZCARD', held))
    return {1, requests, per}
end

local granted, again = {}, 0
local free = ask.requests - redis.call('ZCARD', held)
local late = ask.not_after > 0 and now > ask.not_after
if ask.count > 0 and not late then
    -- Tokens that an earlier turn granted, and whose grant never arrived: granted again, from this moment on.
    local asked, new = {}, {}
    for index = 1, ask.count do asked[index] = token(ask.first + index - 1) end
    for index, back in ipairs(redis.call('ZMSCORE', held, unpack(asked))) do
        if back then
            redis.call('ZADD', held, now + ask.lease, asked[index])
            granted[#granted + 1] = ask.first + index - 1
        else
            new[#new + 1] = ask.first + index - 1
        end
    end
    -- A ticket: the place that the process has kept, or a new one at the end of its priority.
    local rank = math.max(-1048576, math.min(1048576, -ask.priority)) * PLACES
    local score = redis.call('ZSCORE', line, ask.process)
    local function take_place()
        place = place + 1
        score = rank + place
    end
    if score then score = rank + tonumber(score) % PLACES else take_place() end
    redis.call('ZADD', line, score, ask.process)
    -- Everybody in front who is due takes a token first; whoever sleeps until a later one does not. Those of a higher
    -- priority may want all that there is.
    local ahead = redis.call('ZRANGEBYSCORE', line, '-inf', '(' .. string.format('%.0f', score), 'WITHSCORES')
    local awake, preceded = 0, false
    for index = 1, #ahead, 2 do
        if tonumber(redis.call('ZSCORE', due, ahead[index]) or 0) - ask.slack <= now then
            awake = awake + 1
            preceded = preceded or tonumber(ahead[index + 1]) < rank
        end
    end
    local share = 0
    if now >= hold and now >= pause and free > awake and not preceded then
        local equals = redis.call('ZCOUNT', line, string.format('%.0f', rank), string.format('%.0f', rank + PLACES - 1))
        share = math.min(#new, math.ceil((free - awake) / equals))
    end
    for index = 1, share do
        redis.call('ZADD', held, now + ask.lease, token(new[index]))
        granted[#granted + 1] = new[index]
    end
    free = free - share
    if share < #new then
        if share > 0 then take_place() end
        redis.call('ZADD', line, score, ask.process)
        local need = redis.call('ZRANK', line, ask.process) + 1 - free
        local come = now
        if need > 0 then
            local last = math.min(need, redis.call('ZCARD', held)) - 1
            local back = last >= 0 and redis.call('ZRANGE', held, last, last, 'WITHSCORES')[2]
            -- A request under way is taken as answered right now: its token may come back that early.
            come = math.min(tonumber(back or now + ask.per), now + ask.per)
        end
        come = math.max(come, hold, pause)
        redis.call('ZADD', due, come + ask.slack, ask.process)
        again = math.max(come - now, SOON)
    end
end
if again == 0 and not late then
    redis.call('ZREM', line, ask.process)
    redis.call('ZREM', due, ask.process)
end

redis.call('HSET', state, 'version', VERSION, 'run', run, 'epoch', epoch, 'serial', serial, 'at', now, 'place', place,
    'hold', hold, 'pause', pause, 'requests', ask.requests, 'per', ask.per, 'held', redis.call('ZCARD', held))
local answer = {0, now, epoch, serial, math.max(hold - now, 0), math.max(pause - now, 0), again, free}
for _, index in ipairs(granted) do answer[#answer + 1] = index end
return answer
