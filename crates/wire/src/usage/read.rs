//! Reads one usage object of a provider into [`ProviderCounts`]. It must not know the conventions
//! that the figures follow, nor where the object stood.

use llm_router_domain::inexact::Reason;
use llm_router_domain::usage::{Fee, ServiceTier, ShortName};
use rust_decimal::Decimal;

use crate::json;

use super::counts::ProviderCounts;
use super::iterations::Iterations;

/// Digits after the point that are kept of a stated cost: those that the stores keep.
const COST_SCALE: u32 = 15;

/// The highest cost of one attempt that is taken for a cost, in USD.
const MAX_COST: u32 = 1_000_000;

/// Digits after the point of xAI's ticks, each 10⁻¹⁰ USD.
const TICK_SCALE: u32 = 10;

impl ProviderCounts {
    /// Reads a usage object. None if it holds no count at all, as a tool's schema of that name.
    pub(super) fn read(object: &[u8]) -> Option<Self> {
        let mut counts = Self::default();
        for (key, value) in json::entries(object) {
            counts.read_member(key, value);
        }
        let any = counts
            .input
            .or(counts.output)
            .or(counts.total)
            .or(counts.cached);
        any.map(|_| counts)
    }

    fn read_member(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" | b"inputTokens" => {
                put(&mut self.input, value);
            }
            b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" | b"outputTokens" => {
                put(&mut self.output, value);
            }
            b"total_tokens" | b"totalTokenCount" | b"totalTokens" => put(&mut self.total, value),
            b"prompt_cache_hit_tokens"
            | b"cached_tokens"
            | b"cache_read_input_tokens"
            | b"cacheReadInputTokens"
            | b"cachedContentTokenCount" => put(&mut self.cached, value),
            b"cache_creation_input_tokens" | b"cacheWriteInputTokens" => {
                put(&mut self.cache_write, value);
            }
            b"citation_tokens" => put(&mut self.citation, value),
            b"reasoning_tokens" => put(&mut self.reasoning_beside, value),
            b"thoughtsTokenCount" => put(&mut self.thoughts, value),
            b"toolUsePromptTokenCount" => put(&mut self.tool_input, value),
            b"service_tier" | b"serviceTier" | b"trafficType" => self.read_service_tier(value),
            b"inference_geo" => self.inference_geo = name(value, &["global", "not_available"]),
            b"speed" => self.speed = name(value, &["standard"]),
            b"search_context_size" => self.search_context = name(value, &[]),
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => {
                self.read_input_details(value);
            }
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => {
                self.read_output_details(value);
            }
            b"cached_tokens_details" => self.read_cached_details(value),
            b"cache_creation" => self.read_cache_creation(value),
            b"iterations" => self.iterations = Iterations::read(value).map(Box::new),
            b"fallback_credit" => self.read_fallback_credit(value),
            _ => self.read_beside_tokens(key, value),
        }
    }

    /// Members that count no tokens of the model, or that one provider alone has.
    fn read_beside_tokens(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"server_tool_use" | b"server_tool_use_details" => self.read_server_tools(value),
            b"server_side_tool_usage_details" => self.read_server_side_tools(value),
            b"tool_calls_details" => self.read_tool_calls(value),
            b"num_search_queries" => self.put_uses(Fee::WebSearch, json::count(value)),
            b"num_server_side_tools_used" => self.tools_used = json::count(value),
            b"cost" | b"estimated_cost" => self.read_cost(value),
            b"cost_in_usd_ticks" => self.reported_cost = ticks(value).or(self.reported_cost),
            b"cost_details" => self.upstream_cost = member_cost(value, b"upstream_inference_cost"),
            b"is_byok" => self.own_key = value == b"true",
            _ if counts_tokens(key) => self.unknown_if_counted(value),
            _ => self.read_modalities(key, value),
        }
    }

    /// Notes the tier a provider says it served the request in.
    pub(super) fn read_service_tier(&mut self, value: &[u8]) {
        let tier = json::string(value).map(|name| ServiceTier::from_name(&name));
        self.service_tier = tier.or(self.service_tier);
    }

    fn read_input_details(&mut self, details: &[u8]) {
        for (key, value) in json::entries(details) {
            match key {
                b"cached_tokens" | b"cache_read_input_tokens" => put(&mut self.cached, value),
                // OpenAI keeps a prefix for thirty minutes unless a longer time is asked for.
                b"cache_write_tokens" => {
                    put(&mut self.cache_write, value);
                    self.write_30m_by_default = true;
                }
                b"cache_creation_tokens" | b"cache_creation_input_tokens" => {
                    put(&mut self.cache_write, value);
                }
                b"cache_write_tokens_details" => {
                    self.cache_write_30m = member_count(value, b"ttl_30m_tokens");
                    self.cache_write_12h = member_count(value, b"ttl_12h_tokens");
                }
                b"cached_tokens_details" => self.read_cached_details(value),
                b"audio_tokens" => put(&mut self.audio_input, value),
                b"image_tokens" => put(&mut self.image_input, value),
                // Video has no price of its own in any table: it counts as text.
                b"text_tokens" | b"video_tokens" => {}
                _ => self.unknown_if_counted(value),
            }
        }
    }

    fn read_output_details(&mut self, details: &[u8]) {
        for (key, value) in json::entries(details) {
            match key {
                b"reasoning_tokens" | b"thinking_tokens" => put(&mut self.reasoning, value),
                b"accepted_prediction_tokens" => put(&mut self.accepted, value),
                b"rejected_prediction_tokens" => put(&mut self.rejected, value),
                b"audio_tokens" => put(&mut self.audio_output, value),
                b"image_tokens" => put(&mut self.image_output, value),
                b"text_tokens" => {}
                _ => self.unknown_if_counted(value),
            }
        }
    }

    /// Cached input by modality, as OpenAI splits it.
    fn read_cached_details(&mut self, details: &[u8]) {
        for (key, value) in json::entries(details) {
            match key {
                b"audio_tokens" | b"cached_audio_tokens" => put(&mut self.cached_audio, value),
                b"image_tokens" | b"cached_image_tokens" => put(&mut self.cached_image, value),
                b"text_tokens" | b"cached_text_tokens" => {}
                _ => self.unknown_if_counted(value),
            }
        }
    }

    fn unknown_if_counted(&mut self, value: &[u8]) {
        if json::count(value).is_some_and(|count| count > 0) {
            self.inexact.add(Reason::UnknownUsage);
        }
    }

    fn read_cache_creation(&mut self, split: &[u8]) {
        for (key, value) in json::entries(split) {
            match key {
                b"ephemeral_5m_input_tokens" => self.cache_write_5m = json::count(value),
                b"ephemeral_1h_input_tokens" => self.cache_write_1h = json::count(value),
                _ => self.unknown_if_counted(value),
            }
        }
    }

    /// A redeemed credit bills the request as if the model that served it had served the whole
    /// conversation, by figures that the answer doesn't have.
    fn read_fallback_credit(&mut self, value: &[u8]) {
        let status = json::member(value, b"status");
        let kind = status.and_then(|status| json::member(status, b"type"));
        if kind == Some(b"\"redeemed\"") {
            self.inexact.add(Reason::UnknownFactor);
        }
    }

    /// Anthropic's uses of tools that it runs itself.
    fn read_server_tools(&mut self, tools: &[u8]) {
        for (key, value) in json::entries(tools) {
            let uses = json::count(value);
            match key {
                b"web_search_requests" => self.put_uses(Fee::WebSearch, uses),
                b"code_execution_requests" => self.put_uses(Fee::CodeSession, uses),
                // Fetches are free of charge; the others count again what one of these counts.
                b"web_fetch_requests"
                | b"tool_calls_executed"
                | b"tool_calls_requested"
                | b"tool_search_requests" => {}
                _ => self.add_server_tools(uses),
            }
        }
    }

    /// xAI's uses of tools by kind.
    fn read_server_side_tools(&mut self, tools: &[u8]) {
        for (key, value) in json::entries(tools) {
            let uses = json::count(value);
            match key {
                b"web_search_calls" => self.put_uses(Fee::WebSearch, uses),
                b"x_search_calls" => self.put_uses(Fee::XSearch, uses),
                b"code_interpreter_calls" => self.put_uses(Fee::CodeSession, uses),
                b"file_search_calls" | b"document_search_calls" => {
                    let sum = or0(self.uses(Fee::FileSearch)).saturating_add(or0(uses));
                    self.put_uses(Fee::FileSearch, Some(sum));
                }
                // Calls of the client's own servers cost tokens only.
                b"mcp_calls" => {}
                _ => self.add_server_tools(uses),
            }
        }
    }

    /// Perplexity's uses of tools by name.
    fn read_tool_calls(&mut self, tools: &[u8]) {
        for (key, value) in json::entries(tools) {
            let uses = member_count(value, b"invocation");
            match key {
                b"search_web" | b"web_search" => self.put_uses(Fee::WebSearch, uses),
                _ => self.add_server_tools(uses),
            }
        }
    }

    fn add_server_tools(&mut self, uses: Option<u64>) {
        if let Some(uses) = uses.filter(|uses| *uses > 0) {
            let sum = or0(self.uses(Fee::ServerTool)).saturating_add(uses);
            self.put_uses(Fee::ServerTool, Some(sum));
        }
    }

    /// A cost as a number (OpenRouter) or as an object with a total (Perplexity).
    fn read_cost(&mut self, value: &[u8]) {
        let cost = if json::is_object(value) {
            self.reasoning_apart |= json::member(value, b"reasoning_tokens_cost").is_some();
            let currency = json::member(value, b"currency");
            let dollars = currency.is_none_or(|name| name == b"\"USD\"" || name == b"null");
            member_cost(value, b"total_cost").filter(|_| dollars)
        } else {
            usd(value)
        };
        self.reported_cost = cost.or(self.reported_cost);
    }

    /// Gemini's lists of `{modality, tokenCount}`.
    fn read_modalities(&mut self, key: &[u8], list: &[u8]) {
        match key {
            b"promptTokensDetails" | b"toolUsePromptTokensDetails" => {
                add(&mut self.audio_input, modality(list, b"\"AUDIO\""));
                add(&mut self.image_input, modality(list, b"\"IMAGE\""));
            }
            b"cacheTokensDetails" => {
                self.cached_audio = Some(modality(list, b"\"AUDIO\""));
                self.cached_image = Some(modality(list, b"\"IMAGE\""));
            }
            b"candidatesTokensDetails" => {
                self.audio_output = Some(modality(list, b"\"AUDIO\""));
                self.image_output = Some(modality(list, b"\"IMAGE\""));
            }
            _ => {}
        }
    }
}

/// Returns true for a count of tokens that no other member says again.
fn counts_tokens(key: &[u8]) -> bool {
    let repeats = matches!(
        key,
        b"prompt_cache_miss_tokens" | b"audio_prompt_tokens" | b"text_tokens"
    );
    let counts = key.ends_with(b"_tokens") || key.ends_with(b"Tokens");
    counts && !repeats
}

/// Puts a count in; where several names stand for one figure, the largest holds.
fn put(field: &mut Option<u64>, value: &[u8]) {
    *field = (*field).max(json::count(value));
}

fn add(field: &mut Option<u64>, count: u64) {
    *field = Some(or0(*field).saturating_add(count));
}

pub(super) fn or0(count: Option<u64>) -> u64 {
    count.unwrap_or_default()
}

pub(super) fn member_count(object: &[u8], key: &[u8]) -> Option<u64> {
    json::member(object, key).and_then(json::count)
}

fn modality(list: &[u8], name: &[u8]) -> u64 {
    json::elements(list)
        .filter(|item| json::member(item, b"modality") == Some(name))
        .filter_map(|item| member_count(item, b"tokenCount"))
        .fold(0, u64::saturating_add)
}

/// The value of a factor, or none if it is null or one of the values that change no price.
fn name(value: &[u8], neutral: &[&str]) -> Option<ShortName> {
    let name = ShortName::new(&json::string(value)?);
    let changes = !neutral.contains(&name.as_str());
    Some(if changes { name } else { ShortName::EMPTY })
}

/// An amount of USD as a provider writes it; none if it is none or absurd.
fn usd(value: &[u8]) -> Option<Decimal> {
    let text = std::str::from_utf8(value).ok()?.trim_matches('"');
    let amount: Decimal = if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).ok()?
    } else {
        text.parse().ok()?
    };
    bounded(amount)
}

/// A cost in ticks. None cost nothing: a reseller of xAI's models fills the field with zero.
fn ticks(value: &[u8]) -> Option<Decimal> {
    let ticks = i64::try_from(json::count(value)?).ok()?;
    if ticks == 0 {
        return None;
    }
    bounded(Decimal::new(ticks, TICK_SCALE))
}

fn bounded(amount: Decimal) -> Option<Decimal> {
    let sane = !amount.is_sign_negative() && amount <= Decimal::from(MAX_COST);
    sane.then(|| amount.round_dp(COST_SCALE).normalize())
}

fn member_cost(object: &[u8], key: &[u8]) -> Option<Decimal> {
    json::member(object, key).and_then(usd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_as_they_are_written() {
        for (text, cost) in [
            ("0.0105", Some("0.0105")),
            ("5.25e-05", Some("0.0000525")),
            ("1E-3", Some("0.001")),
            ("\"0.5\"", Some("0.5")),
            ("0.00000000000000049", Some("0")),
            ("0", Some("0")),
            ("-1", None),
            ("1e9", None),
            ("null", None),
            ("[]", None),
        ] {
            let read = usd(text.as_bytes()).map(|cost| cost.to_string());
            assert_eq!(read.as_deref(), cost, "{text}");
        }
        assert_eq!(ticks(b"167000000").unwrap().to_string(), "0.0167");
    }
}
