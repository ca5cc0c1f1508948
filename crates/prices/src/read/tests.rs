//! Forms that a prices file may have, and the mistakes in it.

use jiff::Timestamp;
use llm_router_domain::inexact::Reasons;
use llm_router_domain::usage::Usage;

use super::*;

fn errors(text: &str) -> Vec<String> {
    read(text)
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What a usage of the model `a/b` costs at noon of 2026-06-01, exactly.
fn cost(table: &PriceTable, usage: &Usage) -> String {
    let charge = table
        .get("a/b")
        .unwrap()
        .charge(usage, at("2026-06-01T12:00:00Z"));
    assert_eq!(charge.inexact, Reasons::NONE);
    charge.cost.usd().unwrap().to_string()
}

fn million(class: Class) -> Usage {
    Usage::default().with(class, 1_000_000)
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let text = "\
gpt-4o: [{ from: 2026-01-01, input: 1 }]
a/b:
  - { from: yesterday, input: 0.15, ouput: 1 }
  - input: -1
    from: 2026-02-01
    tiers: [{ input: 1 }, { above: many, input: 1 }, { above: 1, at_least: 2, input: 1 }]
    service_tiers: { flex: { inptu: 1 }, fast: 3, priority: { factor: 2 }, standard: { input: 1 } }
  - { from: 2026-02-01, input: 0.0000000001, output: x }
a/c: 3
a/d: []
a/b: [{ from: 2026-01-01, input: [1], input: 2 }]
";
    let expected = [
        "1: gpt-4o: the name must have the form provider/model",
        "3: a/b[0].from: `yesterday` is not a date; write it as 2026-01-01",
        "3: a/b[0].ouput: unknown field; did you mean `output`?",
        "4: a/b[1].input: a price can't be below 0",
        "6: a/b[1].tiers[0]: `above` is missing; add the number of input tokens above which the \
         tier applies, or `at_least` with the number from which it does",
        "6: a/b[1].tiers[1].above: `many` is not a number of tokens; write it as 200000",
        "6: a/b[1].tiers[2]: has both `above` and `at_least`; remove one",
        "7: a/b[1].service_tiers.flex.inptu: unknown field; did you mean `input`?",
        "7: a/b[1].service_tiers.fast: expected a mapping of prices, found a single value",
        "7: a/b[1].service_tiers.standard: is the list price; write its prices beside `from`",
        "8: a/b[2].input: a price has at most 9 digits after the point",
        "8: a/b[2].output: `x` is not a price; write USD, for example 0.15",
        "8: a/b[2]: two periods begin on 2026-02-01; remove one",
        "9: a/c: expected a list of periods, each with `from`, found a single value",
        "10: a/d: has no periods; add at least one with `from` and `input`",
        "11: a/b: is listed twice; put all periods into one list",
        "11: a/b[0].input: expected a price in USD, for example 0.15, found a list",
        "11: a/b[0].input: is set twice; remove one of them",
    ];
    assert_eq!(errors(text), expected);
}

#[test]
fn mistakes_in_what_changes_a_price_are_named() {
    let text = "\
a/b:
  alias: [x]
  periods:
    - from: 2026-01-01
      checked: soon
      input: 1
      fees_per_1k: { web_serach: 10, maps: x }
      factors: { inference_ge: { us: 1.1 }, speed: { fast: 0 } }
      modes: { thinkin: { output: 4 } }
      search_context_per_1k: { low: 5, mid: 8 }
      service_tiers: { fast: { factor: 2 }, priority: { factor: 2 } }
      hours:
        - { zone: Mars, days: [monday], times: [\"18:00-09:00\"], dates: [x], factor: 200 }
        - { zone: \"+08:00\", day: [sat], times: [\"9-10\"] }
a/*: { same_as: c, aliases: [d] }
a/d: { same_as: c }
a/e: { aliases: [f] }
";
    let expected = [
        "2: a/b.alias: unknown field; did you mean `aliases`?",
        "5: a/b.periods[0].checked: `soon` is not a date; write it as 2026-01-01",
        "7: a/b.periods[0].fees_per_1k.web_serach: unknown field; did you mean `web_search`?",
        "7: a/b.periods[0].fees_per_1k.maps: `x` is not a price; write USD, for example 0.15",
        "8: a/b.periods[0].factors.inference_ge: unknown field; did you mean `inference_geo`?",
        "8: a/b.periods[0].factors.speed.fast: a factor is more than 0 and at most 100, with at \
         most 9 digits",
        "9: a/b.periods[0].modes.thinkin: unknown field; did you mean `thinking`?",
        "10: a/b.periods[0].search_context_per_1k.mid: unknown field; did you mean `medium`?",
        "11: a/b.periods[0].service_tiers.priority: is another name of the tier `priority`; \
         remove one",
        "13: a/b.periods[0].hours[0].zone: `Mars` is not a time zone; write it as UTC or +08:00",
        "13: a/b.periods[0].hours[0].days[0]: `monday` is not known; did you mean `mon`?",
        "13: a/b.periods[0].hours[0].times[0]: `18:00-09:00` is not a span of the day; write it \
         as 16:30-24:00",
        "13: a/b.periods[0].hours[0].dates[0]: `x` is not a date; write it as 2026-01-01",
        "13: a/b.periods[0].hours[0].factor: a factor is more than 0 and at most 100, with at \
         most 9 digits",
        "14: a/b.periods[0].hours[1].day: unknown field; did you mean `days`?",
        "14: a/b.periods[0].hours[1].times[0]: `9-10` is not a span of the day; write it as \
         16:30-24:00",
        "14: a/b.periods[0].hours[1]: `factor` is missing; add the number that rates are \
         multiplied by in these hours",
        "15: a/*: `same_as` stands alone, in an entry whose name ends in *; for one model use \
         `aliases`",
        "16: a/d: `same_as` stands alone, in an entry whose name ends in *; for one model use \
         `aliases`",
        "17: a/e: `periods` is missing; add a list of periods",
    ];
    assert_eq!(errors(text), expected);
}

#[test]
fn other_texts_are_refused_or_empty() {
    for (text, expected) in [
        ("", None),
        ("# nothing yet\n", None),
        (
            "- a",
            Some("1: prices: expected a mapping of provider/model to periods, found a list"),
        ),
        ("a/b: &x [{ from: 2026-01-01, input: 1 }]\na/c: *x", None),
        (
            "a/b: []\n---\na/c: []",
            Some(
                "2: prices: a second YAML document begins here; keep one document in the file \
                 and remove the line `---`",
            ),
        ),
        (
            "a/b:",
            Some("1: a/b: expected a list of periods, each with `from`, found nothing"),
        ),
        (
            "a/b: [{ from: 2026-01-01 }]",
            Some("1: a/b[0]: `input` is missing; add USD per million input tokens"),
        ),
    ] {
        assert_eq!(
            errors(text).first().map(String::as_str),
            expected,
            "{text:?}"
        );
    }
    assert!(!errors("a: [").is_empty());
}

#[test]
fn prices_keep_their_digits() {
    for (written, expected) in [
        ("0.1", "0.1"),
        ("\"0.30\"", "0.3"),
        ("1e-3", "0.001"),
        ("0.123456789", "0.123456789"),
    ] {
        let table = read(&format!("a/b: [{{from: 2026-01-01, input: {written}}}]")).unwrap();
        assert_eq!(cost(&table, &million(Class::Input)), expected, "{written}");
    }
}

#[test]
fn tiers_and_other_prices_are_read() {
    let text = "
a/b:
  - from: 2026-01-01
    input: 1
    output: 2
    per_request: 0.5
    searches_per_1k: 10
    tiers:
      - { above: 200_000, input: 3 }
    service_tiers:
      priority: { input: 7 }
      ultrafast:
        factor: 6
        tiers: [{ at_least: 300000, input: 9 }]
";
    let table = read(text).unwrap();
    let mut usage = Usage::default().with(Class::Input, 200_000);
    assert_eq!(cost(&table, &usage), "0.7");
    usage.set(Class::Input, 300_000);
    assert_eq!(cost(&table, &usage), "1.4");
    usage.service_tier = ServiceTier::from_name("ultrafast");
    assert_eq!(cost(&table, &usage), "3.2");
    usage.set(Class::Input, 299_999);
    assert_eq!(cost(&table, &usage), "2.299994");
    usage.set(Class::Input, 300_000);
    usage.service_tier = ServiceTier::PRIORITY;
    assert_eq!(cost(&table, &usage.with_uses(Fee::WebSearch, 1)), "2.61");
}

#[test]
fn names_fees_factors_modes_and_hours_are_read() {
    let text = "
a/b:
  aliases: [b-old, \"b-eu*\"]
  periods:
    - from: 2026-01-01
      source: [one, other]
      checked: 2026-05-01
      input: 1
      output: 2
      fees_per_1k: { web_search: 10, code_session: 30 }
      factors: { inference_geo: { us: 1.1 }, speed: { fast: 2 } }
      modes: { thinking: { output: 4 } }
      search_context_per_1k: { low: 5, medium: 8, high: 12 }
      hours:
        - { zone: \"+08:00\", days: [mon], times: [\"18:00-24:00\"], factor: 0.5 }
c/*: { same_as: a }
";
    let table = read(text).unwrap();
    for (provider, name) in [("a", "b-old"), ("a", "b-eu-2"), ("c", "b"), ("c", "b-old")] {
        let found = table.find("id", provider, name);
        assert!(found.is_some(), "{provider}/{name}");
    }
    let mut usage = million(Class::Input)
        .with(Class::Output, 1_000_000)
        .with_uses(Fee::CodeSession, 1);
    usage.search_context = ShortName::new("low");
    // Monday, 20:00 in China.
    assert_eq!(cost(&table, &usage), "1.535");
    usage.thinking = true;
    usage.speed = ShortName::new("fast");
    assert_eq!(cost(&table, &usage), "5.035");
    let period = &table.get("a/b").unwrap().periods()[0];
    assert_eq!(period.source, ["one", "other"]);
    assert_eq!(period.checked, Some(jiff::civil::date(2026, 5, 1)));
}
