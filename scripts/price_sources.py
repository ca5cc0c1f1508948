"""Readers of the three sources of prices: each gives, for a provider and a model, the rates in one
common form. They read data from wheels and never run what is in them."""

import ast
import datetime
import json
import re
import zipfile
from decimal import Decimal

MILLION = Decimal(1000000)
THOUSAND = Decimal(1000)

# Where each provider type of the router is found: genai-prices, model-prices, LiteLLM.
PROVIDERS = {
    "openai": ("openai", "openai", ["openai", "text-completion-openai"]),
    "anthropic": ("anthropic", "anthropic", ["anthropic"]),
    "gemini": ("google", "google", ["gemini"]),
    "deepseek": ("deepseek", "deepseek", ["deepseek"]),
    "mistral": ("mistral", "mistral", ["mistral", "codestral"]),
    "groq": ("groq", None, ["groq"]),
    "xai": ("x-ai", "xai", ["xai"]),
    "alibaba": (None, "alibaba", ["dashscope", "qwen_ai_platform", "qwencloud"]),
    "moonshot": ("moonshotai", "moonshotai", ["moonshot"]),
    "zai": ("zai", "zai", ["zai"]),
    "minimax": ("minimax", "minimax", ["minimax"]),
    "xiaomi": (None, "xiaomi", ["xiaomi_mimo"]),
    "meta": ("meta", "meta", ["meta", "meta_llama"]),
    "cohere": ("cohere", "cohere", ["cohere", "cohere_chat"]),
    "perplexity": ("perplexity", "perplexity", ["perplexity"]),
    "together": ("together", None, ["together_ai"]),
    "fireworks": ("fireworks", None, ["fireworks_ai"]),
    "cerebras": ("cerebras", None, ["cerebras"]),
    "voyage": ("voyageai", None, ["voyage"]),
    "bedrock": ("aws", "amazon-bedrock", ["bedrock_converse", "bedrock"]),
}

# How long a provider keeps what is written to its cache without a lifetime being named.
CACHE_WRITE = {"openai": "cache_write_30m"}


class Rates:
    """Rates in USD per million tokens by (service tier, length, class), and what else is charged.

    The standard tier is "", the length is the number of input tokens above which the rate holds."""

    def __init__(self):
        self.cells = {}
        self.fees = {}
        self.search_context = {}
        self.factors = {}

    def set(self, tier, above, kind, usd):
        # Nine digits are what a price may have; more are noise of floats.
        self.cells[(tier, above, kind)] = round(usd, 9).normalize() + 0


def cache_write(provider):
    return CACHE_WRITE.get(provider, "cache_write_5m")


class Genai:
    """genai-prices: dated prices with matchers of names, as a Python literal."""

    name = "genai-prices"
    CLASSES = {
        "input_mtok": "input",
        "output_mtok": "output",
        "cache_read_mtok": "cached_input",
        "cache_write_1h_mtok": "cache_write_1h",
        "input_audio_mtok": "audio_input",
        "input_image_mtok": "image_input",
        "output_audio_mtok": "audio_output",
        "output_image_mtok": "image_output",
        "cache_audio_read_mtok": "cached_audio_input",
        "cache_image_read_mtok": "cached_image_input",
        "output_reasoning_mtok": "reasoning",
        "output_citation_mtok": "citation",
    }
    FEES = {
        "web_searches_kcount": "web_search",
        "storage_searches_kcount": "file_search",
        "social_searches_kcount": "x_search",
        "code_executions_kcount": "code_session",
        "requests_kcount": "request",
    }

    def __init__(self, wheel):
        text = zipfile.ZipFile(wheel).read("genai_prices/data.py").decode()
        listed = next(node for node in ast.parse(text).body if isinstance(node, ast.AnnAssign))
        self.models = {
            provider["id"]: {model["id"]: model for model in provider["models"]}
            for provider in literal(listed.value)
        }

    def names(self, provider):
        return list(self.models.get(PROVIDERS[provider][0], {}))

    def find(self, provider, name):
        models = self.models.get(PROVIDERS[provider][0], {})
        if name in models:
            return models[name]
        return next((m for m in models.values() if is_match(m["match"], name.lower())), None)

    def context(self, provider, name):
        model = self.find(provider, name)
        return model and model.get("context_window")

    def history(self, provider, name):
        """Every (first day or None, rates), by day."""
        model = self.find(provider, name)
        if model is None:
            return []
        listed = model["prices"]
        listed = listed if isinstance(listed, list) else [{"prices": listed}]
        dated = []
        for item in listed:
            constraint = item.get("constraint") or {}
            if "start_time" in constraint:
                continue  # Hours of the day come from model-prices.
            dated.append((constraint.get("start_date"), item["prices"]))
        days = [day for day, _ in dated]
        for variant in model.get("price_variants") or []:
            days.append((variant.get("constraint") or {}).get("start_date"))
        history = []
        for day in sorted(set(days), key=lambda day: day or datetime.date.min):
            holds = [prices for start, prices in dated if start is None or (day and start <= day)]
            if holds:
                history.append((day, self.rates(provider, holds[-1], model, day)))
        return history

    def rates(self, provider, prices, model, day):
        rates = Rates()
        self.add(rates, provider, "", prices)
        for variant in reversed(model.get("price_variants") or []):
            start = (variant.get("constraint") or {}).get("start_date")
            if start is not None and (day is None or start > day):
                continue
            when = variant["when"]
            tier = when.get("service_tier") or when.get("processing")
            if when.get("speed"):
                ratio = uniform_ratio(variant["prices"], prices)
                if ratio:
                    rates.factors[("speed", when["speed"])] = ratio
            elif tier and tier != "default" and len(when) == 1:
                self.add(rates, provider, tier_name(tier), variant["prices"])
        return rates

    def add(self, rates, provider, tier, prices):
        for key, price in prices.items():
            kind = self.CLASSES.get(key)
            if key == "cache_write_mtok":
                kind = cache_write(provider)
            if kind and isinstance(price, dict):
                rates.set(tier, 0, kind, price["base"])
                for step in price["tiers"]:
                    rates.set(tier, round(step["start"], -3), kind, step["price"])
            elif kind:
                rates.set(tier, 0, kind, price)
            elif key in self.FEES and tier == "":
                rates.fees[self.FEES[key]] = price.normalize() + 0


class ModelPrices:
    """model-prices: the history of models.dev with corrections, each with its source."""

    name = "model-prices"
    CLASSES = {"input": "input", "output": "output", "cache_read": "cached_input"}

    def __init__(self, wheel):
        text = zipfile.ZipFile(wheel).read("model_prices/snapshot.json").decode()
        snapshot = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        self.prices = snapshot["prices"]
        self.status = snapshot["status"]
        self.schedules = snapshot["schedules"]

    def names(self, provider):
        return list(self.prices.get(PROVIDERS[provider][1], {}))

    def is_removed(self, provider, name):
        return self.status.get(PROVIDERS[provider][1], {}).get(name) == "removed"

    def history(self, provider, name):
        modes = self.prices.get(PROVIDERS[provider][1], {}).get(name)
        if modes is None:
            return []
        starts = {entry["start"] for entries in modes.values() for entry in entries}
        history = []
        for start in sorted(starts, key=lambda start: start or ""):
            rates = Rates()
            for mode, entries in modes.items():
                holds = [e for e in entries if (e["start"] or "") <= (start or "")]
                if holds and holds[-1]["rates"]:
                    self.add(rates, provider, "" if mode == "standard" else mode, holds[-1]["rates"])
            history.append((start_day(start), rates))
        return history

    def add(self, rates, provider, mode, row):
        if mode == "fast" and provider == "anthropic":
            rates.factors[("speed", "fast")] = None  # The ratio is known once all is read.
        tier = f"mode:{mode}" if mode == "thinking" else tier_name(mode)
        if mode == "fast" and provider == "anthropic":
            tier = "speed:fast"
        for above, prices in [(0, row)] + [(int(t["above"]), t) for t in row.get("tiers", [])]:
            for key, kind in self.CLASSES.items():
                if key in prices:
                    rates.set(tier, above, kind, prices[key])
            # A write at no charge is models.dev's form of "none listed".
            if prices.get("cache_write"):
                rates.set(tier, above, cache_write(provider), prices["cache_write"])
            if row.get("cache_write_1h_multiple") and row.get("cache_write") and "input" in prices:
                long = "cache_write_12h" if provider == "openai" else "cache_write_1h"
                rates.set(tier, above, long, prices["input"] * row["cache_write_1h_multiple"])


class LiteLlm:
    """LiteLLM's map: today's prices only, with the widest set of modifiers, and facts of models."""

    name = "litellm"
    CLASSES = {
        "input_cost_per_token": "input",
        "output_cost_per_token": "output",
        "cache_read_input_token_cost": "cached_input",
        "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
        "cache_creation_input_token_cost_above_12hr": "cache_write_12h",
        "input_cost_per_audio_token": "audio_input",
        "input_cost_per_image_token": "image_input",
        "output_cost_per_audio_token": "audio_output",
        "output_cost_per_image_token": "image_output",
        "output_cost_per_reasoning_token": "reasoning",
        "cache_read_input_audio_token_cost": "cached_audio_input",
        "cache_read_input_image_token_cost": "cached_image_input",
        "citation_cost_per_token": "citation",
    }
    TIERS = {"batches": "batch", "flex": "flex", "priority": "priority", "ultrafast": "ultrafast"}
    FIELD = re.compile(
        r"(?P<base>.+?)(?:_above_(?P<length>\d+)k_tokens)?(?:_(?P<tier>batches|flex|priority|ultrafast))?"
    )

    def __init__(self, wheel):
        text = zipfile.ZipFile(wheel).read("litellm/model_prices_and_context_window_backup.json")
        self.entries = json.loads(text, parse_float=Decimal)
        self.by_provider = {}
        for provider, (_, _, vendors) in PROVIDERS.items():
            found = self.by_provider[provider] = {}
            for vendor in reversed(vendors):
                for key, entry in self.entries.items():
                    if entry.get("litellm_provider") == vendor:
                        found[key.removeprefix(f"{vendor}/")] = entry

    def names(self, provider):
        return [
            name
            for name, entry in self.by_provider[provider].items()
            if entry.get("input_cost_per_token") or entry.get("tiered_pricing")
        ]

    def entry(self, provider, name):
        return self.by_provider[provider].get(name)

    def rates(self, provider, name):
        entry = self.entry(provider, name)
        if entry is None:
            return None
        rates = Rates()
        for field, value in entry.items():
            match = self.FIELD.fullmatch(field)
            kind = self.CLASSES.get(match["base"])
            if match["base"] == "cache_creation_input_token_cost":
                kind = cache_write(provider)
            if kind is None or not isinstance(value, (Decimal, int)):
                continue
            if kind.startswith("cache_write") and not value:
                continue
            tier = self.TIERS.get(match["tier"], "")
            rates.set(tier, int(match["length"] or 0) * 1000, kind, Decimal(value) * MILLION)
        for step in entry.get("tiered_pricing") or []:
            for field, value in step.items():
                if field in self.CLASSES and isinstance(value, (Decimal, int)):
                    above = int(Decimal(step["range"][0]))
                    rates.set("", above, self.CLASSES[field], Decimal(value) * MILLION)
        self.add_fees(rates, provider, entry)
        for key, factor in (entry.get("provider_specific_entry") or {}).items():
            if key in ("us", "eu"):
                rates.factors[("inference_geo", key)] = Decimal(factor)
            elif key == "fast":
                rates.factors[("speed", key)] = Decimal(factor)
        return rates

    def add_fees(self, rates, provider, entry):
        searches = entry.get("search_context_cost_per_query") or {}
        sizes = {
            key.removeprefix("search_context_size_"): (Decimal(usd) * THOUSAND).normalize() + 0
            for key, usd in searches.items()
        }
        if provider == "perplexity":
            rates.search_context = sizes
        elif sizes and len(set(sizes.values())) == 1:
            fee = "web_search"
            if provider == "gemini" and entry.get("web_search_billing_unit") != "per_query":
                fee = "grounded_prompt"
            rates.fees[fee] = sizes.popitem()[1]
        for field, fee, per in [
            ("google_maps_grounding_cost_per_query", "maps", THOUSAND),
            ("code_interpreter_cost_per_session", "code_session", THOUSAND),
            ("file_search_cost_per_1k_calls", "file_search", Decimal(1)),
        ]:
            if entry.get(field):
                rates.fees[fee] = (Decimal(entry[field]) * per).normalize() + 0


def tier_name(name):
    """Names of one tier are one name in the table."""
    return {"fast": "priority"}.get(name, name)


def start_day(start):
    """The first whole UTC day of a start: a change late in a day counts from the next one."""
    if start is None:
        return None
    moment = datetime.datetime.fromisoformat(start.replace("Z", "+00:00"))
    day = moment.date()
    return day + datetime.timedelta(days=1) if moment.hour >= 12 else day


def uniform_ratio(prices, base):
    ratios = set()
    for key, price in prices.items():
        if isinstance(price, Decimal) and isinstance(base.get(key), Decimal) and base[key]:
            ratios.add((price / base[key]).normalize())
    return ratios.pop() if len(ratios) == 1 else None


def literal(node):
    """The value of a Python expression made of constants, lists and constructor calls."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(literal(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {literal(k): literal(v) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.Call):
        callee = ast.unparse(node.func)
        arguments = [literal(argument) for argument in node.args]
        if callee == "Decimal":
            return Decimal(arguments[0])
        if callee == "datetime.date":
            return datetime.date(*arguments)
        fields = {keyword.arg: literal(keyword.value) for keyword in node.keywords}
        if callee.startswith("Clause"):
            fields["clause"] = callee
        return fields
    return ast.unparse(node)


def is_match(clause, text):
    """Evaluates a matcher of genai-prices."""
    kind = clause["clause"]
    if kind == "ClauseEquals":
        return text == clause["equals"].lower()
    if kind == "ClauseStartsWith":
        return text.startswith(clause["starts_with"].lower())
    if kind == "ClauseEndsWith":
        return text.endswith(clause["ends_with"].lower())
    if kind == "ClauseContains":
        return clause["contains"].lower() in text
    if kind == "ClauseRegex":
        return re.search(clause["regex"], text) is not None
    if kind == "ClauseOr":
        return any(is_match(part, text) for part in clause["or_"])
    return all(is_match(part, text) for part in clause["and_"])
