//! Facts of an answer, read from JSON in any format, plain or streamed, without the translation: so
//! that an answer and its translation can be compared. It must not know what may differ.

use std::collections::{BTreeMap, BTreeSet};

use llm_router_domain::format::Format;
use serde_json::Value;

/// Facts of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    text: String,
    thoughts: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
    finish: String,
    usage: Option<(u64, u64)>,
    /// Addresses that the text cites.
    urls: BTreeSet<String>,
    images: usize,
    refused: bool,
    /// Calls of tools that the provider ran itself.
    provider_calls: usize,
    /// Citations of documents, which have no address.
    quotes: usize,
    probabilities: bool,
    /// Blocks of a stream by their number: a call's position.
    open: BTreeMap<u64, usize>,
}

impl Facts {
    /// The facts by their names.
    pub(crate) fn named(&self) -> [(&'static str, String); 10] {
        let calls = self.calls.iter().map(|(name, arguments)| {
            let arguments = match arguments.trim() {
                "" => "{}",
                other => other,
            };
            let canonical = serde_json::from_str::<Value>(arguments).map(|json| json.to_string());
            format!(
                "{name}({})",
                canonical.unwrap_or_else(|_| arguments.to_owned())
            )
        });
        let calls: Vec<String> = calls.collect();
        // JSON may be written in any way.
        let json = serde_json::from_str::<Value>(&self.text).map(|json| json.to_string());
        let text = json.unwrap_or_else(|_| self.text.clone());
        let finish = match self.finish.as_str() {
            _ if self.refused => "filtered",
            "stop" if !calls.is_empty() => "calls",
            other => other,
        };
        [
            ("text", text),
            ("thoughts", self.thoughts.clone()),
            ("finish", finish.to_owned()),
            ("calls", calls.join("; ")),
            ("usage", format!("{:?}", self.usage.unwrap_or_default())),
            ("urls", format!("{:?}", self.urls)),
            ("images", self.images.to_string()),
            ("provider_calls", self.provider_calls.to_string()),
            ("quotes", self.quotes.to_string()),
            ("probabilities", self.probabilities.to_string()),
        ]
    }

    /// Reads a plain answer.
    pub(crate) fn plain(format: Format, body: &Value) -> Self {
        let mut facts = Self::default();
        match format {
            Format::OpenAiChat => facts.chat(body, "message"),
            Format::OpenAiResponses => facts.response(body, true),
            Format::AnthropicMessages => facts.message(body),
            Format::Gemini => facts.gemini(body),
        }
        facts
    }

    /// Reads a streamed answer.
    pub(crate) fn stream(format: Format, text: &str) -> Self {
        let mut facts = Self::default();
        let text = text.replace("\r\n", "\n");
        for event in text.split("\n\n") {
            let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
            let data: Vec<&str> = lines.map(str::trim_start).collect();
            let Ok(event) = serde_json::from_str::<Value>(&data.join("\n")) else {
                continue;
            };
            match format {
                Format::OpenAiChat => facts.chat(&event, "delta"),
                Format::OpenAiResponses => facts.response_event(&event),
                Format::AnthropicMessages => facts.message_event(&event),
                Format::Gemini => facts.gemini(&event),
            }
        }
        facts
    }

    fn chat(&mut self, body: &Value, key: &str) {
        for beside in ["citations", "search_results"] {
            for source in body[beside].as_array().into_iter().flatten() {
                let url = source.as_str().or_else(|| source["url"].as_str());
                self.urls.extend(url.map(str::to_owned));
            }
        }
        let choice = &body["choices"][0];
        let message = match &choice[key] {
            Value::Null => &choice["message"],
            found => found,
        };
        match &message["content"] {
            Value::String(text) => self.text.push_str(text),
            Value::Array(parts) => {
                for part in parts {
                    self.text.push_str(word(&part["text"]));
                    for thought in part["thinking"].as_array().into_iter().flatten() {
                        self.thoughts.push_str(word(&thought["text"]));
                    }
                }
            }
            Value::Null => {}
            other => self.text.push_str(&other.to_string()),
        }
        self.refuse(word(&message["refusal"]));
        let thoughts = [&message["reasoning_content"], &message["reasoning"]];
        let thought = thoughts.into_iter().find_map(Value::as_str);
        self.thoughts.push_str(thought.unwrap_or_default());
        for annotation in message["annotations"].as_array().into_iter().flatten() {
            let url = &annotation["url_citation"]["url"];
            self.urls.extend(url.as_str().map(str::to_owned));
        }
        self.images += message["images"].as_array().map_or(0, Vec::len);
        self.probabilities |= has_items(&choice["logprobs"]["content"]);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            let arguments = match &function["arguments"] {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let name = word(&function["name"]);
            if key == "delta" && (name.is_empty() || self.repeats(call)) {
                if let Some((_, last)) = self.calls.last_mut() {
                    last.push_str(&arguments);
                }
            } else {
                self.open
                    .insert(call["index"].as_u64().unwrap_or(0), self.calls.len());
                self.calls.push((name.to_owned(), arguments));
            }
        }
        match choice["finish_reason"].as_str() {
            Some("length") => self.finish = "length".to_owned(),
            Some("content_filter") => self.finish = "filtered".to_owned(),
            Some(_) => self.finish = "stop".to_owned(),
            // Some servers end without a reason.
            None if self.finish.is_empty() => self.finish = "stop".to_owned(),
            None => {}
        }
        let usage = match &body["usage"] {
            Value::Null => &body["x_groq"]["usage"],
            usage => usage,
        };
        self.openai_usage(
            usage,
            ["prompt_tokens", "completion_tokens"],
            "completion_tokens_details",
        );
    }

    /// A call that is repeated whole or by its name is the one that is open.
    fn repeats(&self, call: &Value) -> bool {
        let index = call["index"].as_u64();
        let open = index.and_then(|index| self.open.get(&index));
        open.is_some_and(|at| {
            let (name, arguments) = &self.calls[*at];
            let whole = serde_json::from_str::<Value>(arguments).is_ok();
            name == word(&call["function"]["name"]) && !whole
        })
    }

    fn openai_usage(&mut self, usage: &Value, keys: [&str; 2], details: &str) {
        let [Some(input), Some(output)] = keys.map(|key| usage[key].as_u64()) else {
            return;
        };
        let reasoning = usage[details]["reasoning_tokens"].as_u64().unwrap_or(0);
        let apart = usage["total_tokens"] == input + output + reasoning;
        let output = if apart { output + reasoning } else { output };
        self.usage = Some((input, output));
    }

    fn refuse(&mut self, text: &str) {
        self.text.push_str(text);
        self.refused |= !text.is_empty();
    }

    fn response(&mut self, body: &Value, content: bool) {
        if content {
            for item in body["output"].as_array().into_iter().flatten() {
                self.item(item);
            }
        }
        let reason = word(&body["incomplete_details"]["reason"]);
        self.finish = match (word(&body["status"]), reason) {
            ("incomplete", "content_filter") => "filtered",
            ("incomplete", _) => "length",
            _ => "stop",
        }
        .to_owned();
        let keys = ["input_tokens", "output_tokens"];
        self.openai_usage(&body["usage"], keys, "output_tokens_details");
    }

    fn item(&mut self, item: &Value) {
        match item["type"].as_str() {
            Some("message") => {
                for part in item["content"].as_array().into_iter().flatten() {
                    self.text.push_str(word(&part["text"]));
                    self.refuse(word(&part["refusal"]));
                    self.cite(&part["annotations"]);
                    self.probabilities |= has_items(&part["logprobs"]);
                }
            }
            Some("reasoning") => {
                let summary = item["summary"].as_array().filter(|list| !list.is_empty());
                let parts = summary.or_else(|| item["content"].as_array());
                let texts = parts.into_iter().flatten().map(|part| word(&part["text"]));
                self.thoughts
                    .push_str(&texts.collect::<Vec<_>>().join("\n\n"));
            }
            Some("function_call") => {
                let words = [&item["name"], &item["arguments"]].map(|v| word(v).to_owned());
                self.calls.push(words.into());
            }
            Some("custom_tool_call") => {
                let input = serde_json::json!({ "input": item["input"] }).to_string();
                self.calls.push((word(&item["name"]).to_owned(), input));
            }
            Some("image_generation_call") => self.images += usize::from(item["result"].is_string()),
            Some(kind) => self.provider_calls += usize::from(kind.ends_with("_call")),
            None => {}
        }
    }

    fn response_event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("response.output_item.done") => self.item(&event["item"]),
            Some("response.completed" | "response.incomplete") => {
                self.response(&event["response"], false);
            }
            _ => {}
        }
    }

    fn message(&mut self, body: &Value) {
        for block in body["content"].as_array().into_iter().flatten() {
            self.block(block);
            if block["type"] == "tool_use" {
                let input = block["input"].to_string();
                self.calls.push((word(&block["name"]).to_owned(), input));
            }
        }
        self.stop(&body["stop_reason"]);
        self.message_usage(&body["usage"]);
    }

    fn block(&mut self, block: &Value) {
        match block["type"].as_str() {
            Some("text") => self.text.push_str(word(&block["text"])),
            Some("thinking") => self.thoughts.push_str(word(&block["thinking"])),
            Some("server_tool_use" | "mcp_tool_use") => self.provider_calls += 1,
            _ => {}
        }
        self.cite(&block["citations"]);
    }

    /// Reads citations of responses and messages.
    fn cite(&mut self, list: &Value) {
        for citation in list.as_array().into_iter().flatten() {
            match citation["url"].as_str() {
                Some(url) => {
                    self.urls.insert(url.to_owned());
                }
                None => self.quotes += 1,
            }
        }
    }

    fn stop(&mut self, reason: &Value) {
        self.finish = match reason.as_str() {
            Some("max_tokens" | "model_context_window_exceeded") => "length",
            Some("refusal") => "filtered",
            Some(_) => "stop",
            None => return,
        }
        .to_owned();
    }

    fn message_usage(&mut self, usage: &Value) {
        let (input, output) = self.usage.unwrap_or_default();
        let count = |key: &str| usage[key].as_u64();
        let cache = ["cache_creation_input_tokens", "cache_read_input_tokens"];
        let cached: u64 = cache.into_iter().filter_map(count).sum();
        let input = count("input_tokens").map_or(input, |own| own + cached);
        self.usage = Some((input, count("output_tokens").unwrap_or(output)));
    }

    fn message_event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("message_start") => self.message_usage(&event["message"]["usage"]),
            Some("content_block_start") => {
                let block = &event["content_block"];
                self.block(block);
                if block["type"] == "tool_use" {
                    let input = block["input"].to_string();
                    let input = if input == "{}" { String::new() } else { input };
                    self.open
                        .insert(event["index"].as_u64().unwrap(), self.calls.len());
                    self.calls.push((word(&block["name"]).to_owned(), input));
                }
            }
            Some("content_block_delta") => {
                let delta = &event["delta"];
                self.text.push_str(word(&delta["text"]));
                self.thoughts.push_str(word(&delta["thinking"]));
                if delta["citation"].is_object() {
                    self.cite(&Value::Array(vec![delta["citation"].clone()]));
                }
                let call = self.open.get(&event["index"].as_u64().unwrap());
                if let Some(call) = call {
                    self.calls[*call].1.push_str(word(&delta["partial_json"]));
                }
            }
            Some("message_delta") => {
                self.stop(&event["delta"]["stop_reason"]);
                self.message_usage(&event["usage"]);
            }
            _ => {}
        }
    }

    fn gemini(&mut self, body: &Value) {
        let candidate = &body["candidates"][0];
        for part in candidate["content"]["parts"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = word(&part["text"]);
            if part["thought"] == true {
                self.thoughts.push_str(text);
            } else {
                self.text.push_str(text);
            }
            if part["functionCall"].is_object() {
                let call = &part["functionCall"];
                let arguments = match &call["args"] {
                    Value::Null => String::new(),
                    args => args.to_string(),
                };
                self.calls.push((word(&call["name"]).to_owned(), arguments));
            }
            self.images += usize::from(part["inlineData"].is_object());
        }
        for source in candidate["groundingMetadata"]["groundingChunks"]
            .as_array()
            .into_iter()
            .flatten()
        {
            self.urls
                .extend(source["web"]["uri"].as_str().map(str::to_owned));
        }
        match candidate["finishReason"].as_str() {
            Some("MAX_TOKENS") => self.finish = "length".to_owned(),
            Some("STOP" | "OTHER") => self.finish = "stop".to_owned(),
            Some(_) => self.finish = "filtered".to_owned(),
            None => {}
        }
        let usage = &body["usageMetadata"];
        let count = |key: &str| usage[key].as_u64().unwrap_or(0);
        if usage.is_object() {
            let input = count("promptTokenCount") + count("toolUsePromptTokenCount");
            let output = count("candidatesTokenCount") + count("thoughtsTokenCount");
            self.usage = Some((input, output));
        }
    }
}

fn has_items(list: &Value) -> bool {
    list.as_array().is_some_and(|items| !items.is_empty())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
