-- One operation on the bearer token; see BearerAsk and BearerTurn in sending/shared/store.py.
--
-- KEYS: state, fetches (generation -> moment of the fetch). ARGV: the ask as JSON.
local VERSION = 1
local state, fetches = KEYS[1], KEYS[2]
local ask = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local known = redis.call('HMGET', state, 'version', 'at', 'token', 'renew', 'dies', 'owner', 'until', 'generation')
local function number(index) return tonumber(known[index] or 0) end
if known[1] and number(1) ~= VERSION then return {'version', '', number(1), 0} end
local at, token, renew, dies = number(2), known[3] or '', number(4), number(5)
local owner, owned, generation = known[6] or '', number(7), number(8)

-- The clock went back: what is left of each duration stays as it was at the last operation.
if now < at then
    local back = at - now
    for _, fetch in ipairs(redis.call('ZRANGE', fetches, 0, -1)) do redis.call('ZINCRBY', fetches, -back, fetch) end
    renew, dies, owned = renew - back, dies - back, owned - back
end
if owned <= now then owner = '' end

local answer = {'done', '', 0, 0}
if ask.action == 'get' then
    redis.call('ZREMRANGEBYSCORE', fetches, '-inf', now - ask.per)
    local used = redis.call('ZCARD', fetches)
    if owner == ask.process then
        -- The answer to an earlier get was lost.
        owned = now + ask.lease
        answer = {'fetch', '', generation, ask.lease}
    elseif owner ~= '' then answer = {'wait', '', 0, owned - now}
    elseif now < renew and token ~= '' and now < dies then
        answer = {'token', token, generation, math.min(renew, dies) - now}
    elseif now < renew then answer = {'wait', '', 0, renew - now}
    elseif used < ask.fetches then
        generation, owner, owned = generation + 1, ask.process, now + ask.lease
        redis.call('ZADD', fetches, now, generation)
        answer = {'fetch', '', generation, ask.lease}
    elseif token ~= '' and now < dies then answer = {'token', token, generation, dies - now}
    else
        answer = {'spent', '', 0, tonumber(redis.call('ZRANGE', fetches, 0, 0, 'WITHSCORES')[2]) + ask.per - now}
    end
elseif ask.action == 'drop' then
    if token == ask.token then token, renew = '', 0 end
elseif owner == ask.process and generation == ask.generation then
    owner = ''
    if ask.action == 'put' then token, renew, dies = ask.token, now + ask.renew, now + ask.life
    else
        renew = now + ask.renew
        if ask.unsent then redis.call('ZREM', fetches, generation) end
    end
end
redis.call('HSET', state, 'version', VERSION, 'at', now, 'token', token, 'renew', renew, 'dies', dies,
    'owner', owner, 'until', owned, 'generation', generation)
return answer
