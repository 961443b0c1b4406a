-- Days are dropped in the order in which searches lock them: the newest first, and of a day its postings first. So neither waits for the other.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION drop_empty_index_days() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    of_day date;
    suffix text;
    filled boolean;
BEGIN
    FOR of_day IN SELECT day FROM index_day WHERE next > 0 ORDER BY day DESC FOR UPDATE LOOP
        suffix := to_char(of_day, '_YYYYMMDD');
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', 'message' || suffix) INTO filled;
        IF NOT filled THEN
            EXECUTE format('DROP TABLE %I', 'posting' || suffix);
            EXECUTE format('DROP TABLE %I', 'message' || suffix);
            EXECUTE format('DROP TABLE %I', 'message_mailbox' || suffix);
            DELETE FROM posting_recent WHERE day = of_day;
            DELETE FROM index_day WHERE day = of_day;
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd
