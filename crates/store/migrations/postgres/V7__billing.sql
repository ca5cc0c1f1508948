-- Classes of tokens that are billed apart, why a cost isn't exact, the model that served where it is
-- another, and as JSON what has no column: the price used, the cost by class, fees, parts.
ALTER TABLE entries ADD COLUMN cached_audio_input BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN cached_image_input BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN cache_write_30m BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN cache_write_12h BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN citation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN inexact TEXT;
ALTER TABLE entries ADD COLUMN served_model TEXT;
ALTER TABLE entries ADD COLUMN detail TEXT;

-- Requests whose cost isn't exact.
ALTER TABLE cost_daily ADD COLUMN inexact_requests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE cost_monthly ADD COLUMN inexact_requests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE user_daily ADD COLUMN inexact_requests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE user_monthly ADD COLUMN inexact_requests BIGINT NOT NULL DEFAULT 0;
