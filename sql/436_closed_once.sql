-- What the watermark has passed, and a batch cannot close at once, gets its last
-- row when it does: not one as of an open window before, to be written again.
-- What stays open has its row at the batch's end.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t436;
SET search_path = t436;
SELECT clickstream.create_stream('s436', idle_timeout => '1 day', max_future => NULL) > 0 AS made;
SELECT clickstream.create_window('t436.pages', stream => 's436', size => '1 minute', group_by => 'page_url', measures => 'count(*) AS views');
CREATE TABLE change (number int GENERATED ALWAYS AS IDENTITY, kind text, window_start timestamptz, is_final boolean);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO t436.change (kind, window_start, is_final) VALUES (lower(TG_OP), NEW.window_start, NEW.is_final);
	RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON pages FOR EACH ROW EXECUTE FUNCTION note();
-- five minutes of twenty pages each, and some of the sixth
SELECT count(clickstream.produce('s436', json_build_object('user_id', 'u', 'page_url', '/' || i % 20, 'event_time', '2025-01-01 00:00+00'::timestamptz + i * interval '1 second')::text))
FROM generate_series(0, 319) AS i;
SET clickstream.force_closings = 7;
CALL clickstream.process('s436', 320);
SELECT window_start, kind, is_final, count(*) FROM change GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
TRUNCATE change;
CALL clickstream.process('s436');
SELECT window_start, kind, is_final, count(*) FROM change GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
TRUNCATE change;
CALL clickstream.finish('s436');
SELECT window_start, kind, is_final, count(*) FROM change GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT window_start, count(*), sum(views), bool_and(is_final) FROM pages GROUP BY 1 ORDER BY 1;
RESET clickstream.force_closings;
DROP SCHEMA t436 CASCADE;
SELECT clickstream.drop_stream('s436');
