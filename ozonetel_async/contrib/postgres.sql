-- Limits and bearer tokens that processes share; see sending/shared/store.py. Times are microseconds, moments since 1970.
CREATE TABLE ozonetel_version (version integer NOT NULL);
INSERT INTO ozonetel_version VALUES (1);
CREATE TABLE ozonetel_queue (
    key text PRIMARY KEY,
    run text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    serial bigint NOT NULL DEFAULT 0,
    at bigint NOT NULL DEFAULT 0,
    place bigint NOT NULL DEFAULT 0,
    hold bigint NOT NULL DEFAULT 0,
    pause bigint NOT NULL DEFAULT 0,
    requests bigint NOT NULL DEFAULT 0,
    per bigint NOT NULL DEFAULT 0
);
CREATE TABLE ozonetel_held (
    key text, process text, number bigint, back bigint NOT NULL, PRIMARY KEY (key, process, number)
);
CREATE TABLE ozonetel_line (
    key text, process text, rank bigint NOT NULL, place bigint NOT NULL, due bigint NOT NULL, PRIMARY KEY (key, process)
);
CREATE TABLE ozonetel_bearer (
    key text PRIMARY KEY,
    at bigint NOT NULL DEFAULT 0,
    token text NOT NULL DEFAULT '',
    renew bigint NOT NULL DEFAULT 0,
    dies bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    owned bigint NOT NULL DEFAULT 0,
    generation bigint NOT NULL DEFAULT 0,
    fetches bigint[] NOT NULL DEFAULT '{}'
);

CREATE FUNCTION ozonetel_now() RETURNS bigint LANGUAGE sql AS
    $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- How both operations begin: a commit is on the disk before anybody learns of it, and a row that somebody else keeps
-- locked is not waited for longer than the caller waits.
CREATE FUNCTION ozonetel_begin(milliseconds integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN PERFORM set_config('synchronous_commit', 'local', true); END IF;
    PERFORM set_config('lock_timeout', milliseconds || 'ms', true);
END $$;

-- One turn of one process in one queue; see Ask and Turn.
CREATE FUNCTION ozonetel_turn_1(document jsonb, milliseconds integer) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    soon CONSTANT bigint := 20000;    -- when to come again for a token that somebody in front is about to take
    ask record;
    queue ozonetel_queue;
    ticket ozonetel_line;
    -- Another one after a promotion, which may have lost the last turns; a crash loses none.
    timeline text := substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
    fresh boolean;
    now bigint;
    late boolean;
    free bigint;
    granted bigint[] := '{}';
    wanted bigint[];
    share bigint := 0;
    awake bigint;
    preceded boolean;
    equals bigint;
    need bigint;
    come bigint;
    again bigint := 0;
BEGIN
    PERFORM ozonetel_begin(milliseconds);
    SELECT * INTO ask FROM jsonb_to_record(document) AS a(
        key text, process text, requests bigint, per bigint, lease bigint, slack bigint, hold bigint, go boolean, serial bigint,
        epoch bigint, jumped boolean, not_after bigint, priority numeric, first bigint, count bigint, pause bigint,
        concluded jsonb);
    INSERT INTO ozonetel_queue (key, run) VALUES (ask.key, timeline) ON CONFLICT DO NOTHING;
    fresh := FOUND;
    SELECT * INTO queue FROM ozonetel_queue WHERE key = ask.key FOR UPDATE;
    now := ozonetel_now();

    -- The clock went back: what is left of each duration stays as it was at the last turn.
    IF now < queue.at THEN
        UPDATE ozonetel_held SET back = back - (queue.at - now) WHERE key = ask.key;
        UPDATE ozonetel_line SET due = due - (queue.at - now) WHERE key = ask.key;
        queue.hold := queue.hold - (queue.at - now);
        queue.pause := queue.pause - (queue.at - now);
    END IF;

    -- State that is new, of another timeline or of an older moment.
    IF fresh OR queue.run <> timeline OR queue.serial < ask.serial OR (ask.jumped AND ask.epoch = queue.epoch) THEN
        queue.epoch := greatest(now, queue.epoch + 1);
        queue.serial := greatest(queue.serial, ask.serial);
        IF NOT (fresh AND ask.go) THEN queue.hold := greatest(queue.hold, now + ask.hold); END IF;
    END IF;
    queue.serial := queue.serial + 1;

    INSERT INTO ozonetel_held
        SELECT ask.key, ask.process, (pair->>0)::bigint, now + (pair->>1)::bigint
        FROM jsonb_array_elements(ask.concluded) AS pair
        ON CONFLICT (key, process, number) DO UPDATE SET back = excluded.back;
    IF ask.pause > 0 THEN queue.pause := greatest(queue.pause, now + ask.pause); END IF;
    DELETE FROM ozonetel_held WHERE key = ask.key AND back <= now;
    DELETE FROM ozonetel_line WHERE key = ask.key AND due <= now;

    free := ask.requests - (SELECT count(*) FROM ozonetel_held WHERE key = ask.key);
    IF queue.requests > 0 AND (queue.requests, queue.per) <> (ask.requests, ask.per)
        AND (free < ask.requests OR EXISTS (SELECT FROM ozonetel_line WHERE key = ask.key)) THEN
        UPDATE ozonetel_queue SET run = timeline, epoch = queue.epoch, serial = queue.serial, at = now,
            hold = queue.hold, pause = queue.pause WHERE key = ask.key;
        RETURN ARRAY[1, queue.requests, queue.per];
    END IF;

    late := ask.not_after > 0 AND now > ask.not_after;
    IF ask.count > 0 AND NOT late THEN
        -- Tokens that an earlier turn granted, and whose grant never arrived: granted again, from this moment on.
        WITH known AS (
            UPDATE ozonetel_held SET back = now + ask.lease
            WHERE key = ask.key AND process = ask.process AND number >= ask.first AND number < ask.first + ask.count
            RETURNING number)
        SELECT coalesce(array_agg(number ORDER BY number), '{}') INTO granted FROM known;
        SELECT array_agg(number ORDER BY number) INTO wanted
            FROM generate_series(ask.first, ask.first + ask.count - 1) AS number WHERE number <> ALL (granted);
        -- A ticket: the place that the process has kept, or a new one at the end of its priority.
        SELECT * INTO ticket FROM ozonetel_line WHERE key = ask.key AND process = ask.process;
        IF NOT FOUND THEN
            queue.place := queue.place + 1;
            ticket.place := queue.place;
        END IF;
        ticket.rank := greatest(-1048576, least(1048576, -ask.priority));
        -- Everybody in front who is due takes a token first; whoever sleeps until a later one does not. Those of a higher
        -- priority may want all that there is.
        SELECT count(*), coalesce(bool_or(rank < ticket.rank), false) INTO awake, preceded FROM ozonetel_line
            WHERE key = ask.key AND process <> ask.process AND (rank, place) < (ticket.rank, ticket.place)
            AND due - ask.slack <= now;
        IF now >= queue.hold AND now >= queue.pause AND free > awake AND NOT preceded THEN
            SELECT count(*) + 1 INTO equals FROM ozonetel_line
                WHERE key = ask.key AND process <> ask.process AND rank = ticket.rank;
            share := least(coalesce(cardinality(wanted), 0), ceil((free - awake)::numeric / equals));
        END IF;
        INSERT INTO ozonetel_held
            SELECT ask.key, ask.process, number, now + ask.lease FROM unnest(wanted[:share]) AS number;
        granted := granted || wanted[:share];
        free := free - share;
        IF share < coalesce(cardinality(wanted), 0) THEN
            IF share > 0 THEN
                queue.place := queue.place + 1;
                ticket.place := queue.place;
            END IF;
            SELECT count(*) + 1 - free INTO need FROM ozonetel_line
                WHERE key = ask.key AND process <> ask.process AND (rank, place) < (ticket.rank, ticket.place);
            come := now;
            IF need > 0 THEN
                -- A request under way is taken as answered right now: its token may come back that early.
                SELECT least(max(back), now + ask.per) INTO come FROM (
                    SELECT back FROM ozonetel_held WHERE key = ask.key ORDER BY back LIMIT need) AS soonest;
            END IF;
            come := greatest(come, queue.hold, queue.pause);
            INSERT INTO ozonetel_line VALUES (ask.key, ask.process, ticket.rank, ticket.place, come + ask.slack)
                ON CONFLICT (key, process) DO UPDATE
                SET rank = excluded.rank, place = excluded.place, due = excluded.due;
            again := greatest(come - now, soon);
        END IF;
    END IF;
    IF again = 0 AND NOT late THEN DELETE FROM ozonetel_line WHERE key = ask.key AND process = ask.process; END IF;

    UPDATE ozonetel_queue SET run = timeline, epoch = queue.epoch, serial = queue.serial, at = now, place = queue.place,
        hold = queue.hold, pause = queue.pause, requests = ask.requests, per = ask.per WHERE key = ask.key;
    RETURN ARRAY[0, now, queue.epoch, queue.serial, greatest(queue.hold - now, 0), greatest(queue.pause - now, 0),
        again, free] || granted;
END $$;

-- One operation on the bearer token; see BearerAsk and BearerTurn.
CREATE FUNCTION ozonetel_bearer_1(document jsonb, milliseconds integer)
RETURNS TABLE (state text, token text, generation bigint, wait bigint) LANGUAGE plpgsql AS $$
DECLARE
    ask record;
    bearer ozonetel_bearer;
    now bigint;
BEGIN
    PERFORM ozonetel_begin(milliseconds);
    SELECT * INTO ask FROM jsonb_to_record(document) AS a(
        key text, process text, action text, lease bigint, fetches bigint, per bigint, generation bigint, token text,
        renew bigint, life bigint, unsent boolean);
    INSERT INTO ozonetel_bearer (key) VALUES (ask.key) ON CONFLICT DO NOTHING;
    SELECT * INTO bearer FROM ozonetel_bearer AS b WHERE b.key = ask.key FOR UPDATE;
    now := ozonetel_now();

    -- The clock went back: what is left of each duration stays as it was at the last operation.
    IF now < bearer.at THEN
        bearer.renew := bearer.renew - (bearer.at - now);
        bearer.dies := bearer.dies - (bearer.at - now);
        bearer.owned := bearer.owned - (bearer.at - now);
        bearer.fetches := ARRAY(SELECT f - (bearer.at - now) FROM unnest(bearer.fetches) AS f);
    END IF;
    bearer.at := now;
    IF bearer.owned <= now THEN bearer.owner := ''; END IF;

    state := 'done';
    token := '';
    generation := 0;
    wait := 0;
    IF ask.action = 'get' THEN
        bearer.fetches := ARRAY(SELECT f FROM unnest(bearer.fetches) AS f WHERE f > now - ask.per ORDER BY f);
        IF bearer.owner = ask.process THEN
            -- The answer to an earlier get was lost.
            bearer.owned := now + ask.lease;
            state := 'fetch';
            generation := bearer.generation;
            wait := ask.lease;
        ELSIF bearer.owner <> '' THEN
            state := 'wait';
            wait := bearer.owned - now;
        ELSIF now < bearer.renew AND bearer.token <> '' AND now < bearer.dies THEN
            state := 'token';
            token := bearer.token;
            generation := bearer.generation;
            wait := least(bearer.renew, bearer.dies) - now;
        ELSIF now < bearer.renew THEN
            state := 'wait';
            wait := bearer.renew - now;
        ELSIF cardinality(bearer.fetches) < ask.fetches THEN
            bearer.generation := bearer.generation + 1;
            bearer.owner := ask.process;
            bearer.owned := now + ask.lease;
            bearer.fetches := bearer.fetches || now;
            state := 'fetch';
            generation := bearer.generation;
            wait := ask.lease;
        ELSIF bearer.token <> '' AND now < bearer.dies THEN
            state := 'token';
            token := bearer.token;
            generation := bearer.generation;
            wait := bearer.dies - now;
        ELSE
            state := 'spent';
            wait := bearer.fetches[1] + ask.per - now;
        END IF;
    ELSIF ask.action = 'drop' THEN
        IF bearer.token = ask.token THEN
            bearer.token := '';
            bearer.renew := 0;
        END IF;
    ELSIF bearer.owner = ask.process AND bearer.generation = ask.generation THEN
        bearer.owner := '';
        IF ask.action = 'put' THEN
            bearer.token := ask.token;
            bearer.renew := now + ask.renew;
            bearer.dies := now + ask.life;
        ELSE
            bearer.renew := now + ask.renew;
            IF ask.unsent THEN bearer.fetches := bearer.fetches[:cardinality(bearer.fetches) - 1]; END IF;
        END IF;
    END IF;
    UPDATE ozonetel_bearer AS b SET (at, token, renew, dies, owner, owned, generation, fetches) = (bearer.at, bearer.token,
        bearer.renew, bearer.dies, bearer.owner, bearer.owned, bearer.generation, bearer.fetches) WHERE b.key = ask.key;
    RETURN NEXT;
END $$;
