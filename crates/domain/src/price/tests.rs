//! Arithmetic of prices, with figures of our own. The built-in table is tested where it lies.

use jiff::civil::{Time, Weekday, date};
use jiff::tz::Offset;

use super::*;
use crate::inexact::Reason;
use crate::usage::{Class, Fee, MAX_TOKENS, ServiceTier, ShortName};

fn amount(text: &str) -> Amount {
    Amount::new(text.parse().unwrap()).unwrap()
}

fn factor(text: &str) -> Factor {
    Factor::new(text.parse().unwrap()).unwrap()
}

fn rates(figures: &[(Class, &str)]) -> Rates {
    figures
        .iter()
        .fold(Rates::default(), |rates, (class, text)| {
            rates.with(*class, amount(text))
        })
}

fn spec(figures: &[(Class, &str)]) -> PeriodSpec {
    PeriodSpec::new(date(2026, 1, 1), rates(figures))
}

fn flat(figures: &[(Class, &str)]) -> Price {
    Price::new([spec(figures)])
}

fn tier(rates: Rates) -> RateChange {
    RateChange {
        rates,
        ..RateChange::default()
    }
}

fn times(number: &str) -> RateChange {
    RateChange {
        factor: Some(factor(number)),
        ..RateChange::default()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-06-01T12:00:00Z")
}

fn usage(input: u64, output: u64) -> Usage {
    Usage::default()
        .with(Class::Input, input)
        .with(Class::Output, output)
}

/// What a usage costs at noon, and the reasons for which that isn't exact.
fn cost(price: &Price, usage: &Usage) -> (String, String) {
    let charge = price.charge(usage, noon());
    (usd(charge.cost), charge.inexact.to_text())
}

fn exact(price: &Price, usage: &Usage) -> String {
    let (cost, inexact) = cost(price, usage);
    assert_eq!(inexact, "", "{usage:?}");
    cost
}

fn usd(cost: Cost) -> String {
    cost.usd()
        .map_or_else(|| "unpriced".into(), |usd| usd.to_string())
}

#[test]
fn cost_is_exact_to_the_last_digit() {
    let price = flat(&[
        (Class::Input, "0.15"),
        (Class::CacheRead, "0.075"),
        (Class::Output, "0.60"),
    ]);
    let usage = Usage::default()
        .with(Class::Input, 1)
        .with(Class::CacheRead, 3)
        .with(Class::Output, 7)
        .with(Class::Reasoning, 2);
    // 0.15 + 0.225 + 5.4, each millionth.
    assert_eq!(exact(&price, &usage), "0.000005775");
    let charge = price.charge(&usage, noon());
    let parts: Vec<String> = charge
        .parts()
        .map(|(name, usd)| format!("{name} {usd}"))
        .collect();
    assert_eq!(
        parts,
        [
            "input 0.00000015",
            "cached_input 0.000000225",
            "output 0.0000042",
            "reasoning 0.0000012"
        ]
    );
}

#[test]
fn a_class_without_a_price_costs_as_input_or_output_and_says_so() {
    let price = flat(&[(Class::Input, "2"), (Class::Output, "10")]);
    for class in Class::ALL {
        let (cost, inexact) = cost(&price, &Usage::default().with(class, 1_000_000));
        let expected = if class.is_input() { "2" } else { "10" };
        assert_eq!(cost, expected, "{class:?}");
        let by_terms = matches!(
            class,
            Class::Input
                | Class::ImageInput
                | Class::Output
                | Class::Reasoning
                | Class::AcceptedPrediction
                | Class::RejectedPrediction
        );
        let reason = format!("missing_rate:{}", class.name());
        assert_eq!(inexact, if by_terms { "" } else { &reason }, "{class:?}");
    }
    let no_output = flat(&[(Class::Input, "2")]);
    assert_eq!(cost(&no_output, &usage(0, 1)).0, "unpriced");
}

#[test]
fn periods_begin_on_their_day() {
    let from = |day, price| PeriodSpec::new(day, rates(&[(Class::Input, price)]));
    let price = Price::new([from(date(2026, 3, 1), "2"), from(date(2026, 1, 1), "1")]);
    for (moment, cost) in [
        ("2025-12-31T23:59:59Z", "unpriced"),
        ("2026-01-01T00:00:00Z", "1"),
        ("2026-02-28T23:59:59Z", "1"),
        ("2026-03-01T00:00:00Z", "2"),
    ] {
        assert_eq!(
            usd(price.cost(&usage(1_000_000, 0), at(moment))),
            cost,
            "{moment}"
        );
    }
}

/// Figures that double above 272,000 tokens, output by a half.
fn long() -> PeriodSpec {
    let mut spec = spec(&[
        (Class::Input, "2"),
        (Class::CacheRead, "0.2"),
        (Class::Output, "10"),
    ]);
    let step = rates(&[
        (Class::Input, "4"),
        (Class::CacheRead, "0.4"),
        (Class::Output, "15"),
    ]);
    spec.steps = vec![(Threshold::above(272_000), step)];
    spec
}

#[test]
fn the_boundary_of_a_length_is_inclusive_or_not() {
    let step = || rates(&[(Class::Input, "4")]);
    for (threshold, at_boundary) in [
        (Threshold::above(200_000), "0.4"),
        (Threshold::at_least(200_000), "0.8"),
    ] {
        let mut spec = spec(&[(Class::Input, "2")]);
        spec.steps = vec![(threshold, step())];
        let price = Price::new([spec]);
        assert_eq!(exact(&price, &usage(199_999, 0)), "0.399998");
        assert_eq!(exact(&price, &usage(200_000, 0)), at_boundary);
        assert_eq!(exact(&price, &usage(200_001, 0)), "0.800004");
    }
}

#[test]
fn a_tier_with_a_factor_keeps_the_lengths() {
    let mut spec = long();
    spec.service_tiers = vec![
        (ServiceTier::FLEX, times("0.5")),
        (ServiceTier::PRIORITY, times("2")),
    ];
    let price = Price::new([spec]);
    let mut request = usage(300_000, 1000);
    assert_eq!(exact(&price, &request), "1.215");
    request.service_tier = ServiceTier::FLEX;
    assert_eq!(exact(&price, &request), "0.6075");
    request.service_tier = ServiceTier::from_name("fast");
    assert_eq!(exact(&price, &request), "2.43");
    let mut short = usage(1000, 500);
    short.service_tier = ServiceTier::PRIORITY;
    assert_eq!(exact(&price, &short), "0.014");
}

#[test]
fn a_tier_with_rates_has_lengths_of_its_own() {
    let mut spec = long();
    let own = rates(&[(Class::Input, "1"), (Class::Output, "5")]);
    let mut with_steps = tier(own.clone());
    let step = rates(&[(Class::Input, "3"), (Class::Output, "7")]);
    with_steps.steps = vec![(Threshold::above(272_000), step)];
    spec.service_tiers = vec![
        (ServiceTier::FLEX, tier(own)),
        (ServiceTier::BATCH, with_steps),
    ];
    let price = Price::new([spec]);
    let mut request = usage(300_000, 1000);
    request.service_tier = ServiceTier::FLEX;
    assert_eq!(exact(&price, &request), "0.305");
    request.service_tier = ServiceTier::BATCH;
    assert_eq!(exact(&price, &request), "0.907");
}

#[test]
fn an_unknown_tier_costs_as_the_dearest_and_says_so() {
    let mut spec = long();
    spec.service_tiers = vec![
        (ServiceTier::FLEX, times("0.5")),
        (ServiceTier::PRIORITY, times("2")),
    ];
    let price = Price::new([spec]);
    let mut request = usage(1000, 500);
    request.service_tier = ServiceTier::from_name("hyper");
    let expected = ("0.014".to_owned(), "unknown_service_tier".to_owned());
    assert_eq!(cost(&price, &request), expected);
    // Without any tier the list price is all there is.
    let plain = Price::new([long()]);
    let expected = ("0.007".to_owned(), "unknown_service_tier".to_owned());
    assert_eq!(cost(&plain, &request), expected);
}

#[test]
fn thinking_has_its_own_rates_where_a_model_has_the_mode() {
    let mut spec = spec(&[(Class::Input, "0.4"), (Class::Output, "1.2")]);
    spec.thinking = Some(tier(rates(&[(Class::Output, "4")])));
    let price = Price::new([spec]);
    let mut request = usage(1_000_000, 1_000_000);
    assert_eq!(exact(&price, &request), "1.6");
    request.thinking = true;
    assert_eq!(exact(&price, &request), "4.4");
}

#[test]
fn regions_and_speeds_multiply_tokens() {
    let mut spec = spec(&[(Class::Input, "4"), (Class::Output, "20")]);
    spec.rates.set_fee(Fee::WebSearch, amount("10"));
    spec.factors = vec![
        (
            FactorKind::InferenceGeo,
            ShortName::new("us"),
            factor("1.1"),
        ),
        (FactorKind::Speed, ShortName::new("fast"), factor("2")),
    ];
    let price = Price::new([spec]);
    let mut request = usage(1000, 500);
    for (geo, speed, expected) in [
        ("", "", "0.014"),
        ("global", "standard", "0.014"),
        ("not_available", "", "0.014"),
        ("us", "", "0.0154"),
        ("", "fast", "0.028"),
        ("us", "fast", "0.0308"),
    ] {
        request.inference_geo = ShortName::new(geo);
        request.speed = ShortName::new(speed);
        assert_eq!(exact(&price, &request), expected, "{geo} {speed}");
    }
    // A search costs what it costs.
    let with_search = request.with_uses(Fee::WebSearch, 1);
    assert_eq!(exact(&price, &with_search), "0.0408");
    request.inference_geo = ShortName::new("mars");
    let expected = ("0.0308".to_owned(), "unknown_factor".to_owned());
    assert_eq!(cost(&price, &request), expected);
}

#[test]
fn hours_are_told_by_the_clock_of_the_provider() {
    let zone = Offset::constant(8);
    let time = |hour| Time::constant(hour, 0, 0, 0);
    let window = |days: &[Weekday], times: &[(Time, Option<Time>)]| HourWindow {
        zone,
        days: days.to_vec(),
        dates: Vec::new(),
        times: times.to_vec(),
        factor: factor("0.5"),
    };
    let mut spec = spec(&[(Class::Input, "0.3")]);
    let working = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
    ];
    let free = [
        (time(0), Some(time(9))),
        (time(12), Some(time(14))),
        (time(18), None),
    ];
    let mut holiday = window(&[], &[]);
    holiday.dates = vec![date(2026, 10, 1)];
    spec.hours = vec![
        window(&working, &free),
        window(&[Weekday::Saturday, Weekday::Sunday], &[]),
        holiday,
    ];
    let price = Price::new([spec]);
    for (moment, expected) in [
        ("2026-11-30T00:59:59Z", "0.15"), // Monday, 08:59:59
        ("2026-11-30T01:00:00Z", "0.3"),
        ("2026-11-30T03:59:59Z", "0.3"),
        ("2026-11-30T04:00:00Z", "0.15"), // noon
        ("2026-11-30T06:00:00Z", "0.3"),
        ("2026-11-30T10:00:00Z", "0.15"),
        ("2026-11-28T02:00:00Z", "0.15"), // Saturday
        ("2026-10-01T02:00:00Z", "0.15"), // a holiday, Thursday
        ("2026-09-30T16:30:00Z", "0.15"), // the same, by Chinese time
        ("2026-10-08T02:00:00Z", "0.3"),
    ] {
        assert_eq!(
            usd(price.cost(&usage(1_000_000, 0), at(moment))),
            expected,
            "{moment}"
        );
    }
    let bound = price.bound(&usage(1_000_000, 0), at("2026-11-28T02:00:00Z"));
    assert_eq!(usd(bound), "0.3");
}

#[test]
fn the_hours_of_a_week_add_up() {
    let mut cheap = 0;
    let window = HourWindow {
        zone: Offset::UTC,
        days: vec![Weekday::Saturday, Weekday::Sunday],
        dates: Vec::new(),
        times: Vec::new(),
        factor: factor("0.5"),
    };
    let first = at("2026-11-30T00:00:00Z");
    for hour in 0..168 {
        let moment = first + jiff::SignedDuration::from_hours(hour);
        cheap += u32::from(window.contains(moment));
    }
    assert_eq!(cheap, 48);
}

#[test]
fn uses_and_requests_are_billed_by_the_piece() {
    let mut row = rates(&[(Class::Input, "1")]);
    row.set_fee(Fee::WebSearch, amount("10"));
    row.per_request = Some(amount("0.005"));
    let price = Price::new([PeriodSpec::new(date(2026, 1, 1), row)]);
    let three = Usage::default().with_uses(Fee::WebSearch, 3);
    assert_eq!(exact(&price, &three), "0.035");
    let charge = price.charge(&three, noon());
    assert_eq!(charge.of_fee(Fee::WebSearch).to_string(), "0.03");
    assert_eq!(charge.request.to_string(), "0.005");
    // A price for either unit is enough; one for neither is said.
    let grounded = Usage::default().with_uses(Fee::GroundedPrompt, 1);
    assert_eq!(exact(&price, &grounded), "0.005");
    let file = Usage::default().with_uses(Fee::FileSearch, 2);
    let expected = ("0.005".to_owned(), "unpriced_tool".to_owned());
    assert_eq!(cost(&price, &file), expected);
}

#[test]
fn a_request_is_charged_by_its_search_context() {
    let mut spec = spec(&[(Class::Input, "1")]);
    spec.search_context =
        SearchContextFees([Some(amount("5")), Some(amount("8")), Some(amount("12"))]);
    let price = Price::new([spec]);
    let mut request = Usage::default();
    for (size, expected, inexact) in [
        ("low", "0.005", ""),
        ("high", "0.012", ""),
        ("", "0.012", "unknown_factor"),
        ("huge", "0.012", "unknown_factor"),
    ] {
        request.search_context = ShortName::new(size);
        let expected = (expected.to_owned(), inexact.to_owned());
        assert_eq!(cost(&price, &request), expected, "{size}");
    }
}

#[test]
fn the_bound_is_the_dearest_of_everything() {
    let mut spec = long();
    spec.service_tiers = vec![
        (ServiceTier::FLEX, times("0.5")),
        (ServiceTier::PRIORITY, times("2")),
    ];
    spec.factors = vec![(
        FactorKind::InferenceGeo,
        ShortName::new("us"),
        factor("1.1"),
    )];
    let price = Price::new([spec]);
    assert_eq!(usd(price.bound(&usage(1000, 500), noon())), "0.0154");
    assert_eq!(
        usd(price.bound(&usage(1000, 500), at("2020-01-01T00:00:00Z"))),
        "unpriced"
    );
}

#[test]
fn a_factor_of_a_provider_multiplies_all_of_its_prices() {
    let mut row = rates(&[(Class::Input, "0.15")]);
    row.set_fee(Fee::WebSearch, amount("10"));
    let mut table = PriceTable::new([(
        "openai/m".to_owned(),
        Price::new([PeriodSpec::new(date(2026, 1, 1), row)]),
    )]);
    table.set_factor("cheap", factor("0.85"));
    table.set_revision("test 1");
    let request = usage(1, 0).with_uses(Fee::WebSearch, 1);
    let of = |id| table.find(id, "openai", "m").unwrap();
    assert_eq!(exact(of("other"), &request), "0.01000015");
    assert_eq!(exact(of("cheap"), &request), "0.0085001275");
    let used = of("other").charge(&request, noon()).price.unwrap();
    assert_eq!(
        (&*used.table, &*used.entry, used.from),
        ("test 1", "openai/m", date(2026, 1, 1))
    );
}

#[test]
fn the_largest_usage_at_the_dearest_price_is_still_exact() {
    let price = flat(&[
        (Class::Input, "999999.999999999"),
        (Class::Output, "1000000"),
    ]);
    let most = Class::ALL
        .into_iter()
        .fold(Usage::default(), |usage, class| {
            usage.with(class, MAX_TOKENS)
        });
    assert_eq!(cost(&price, &most).0, "169999999999.99989");
    let mut spec = spec(&[(Class::Input, "1000000"), (Class::Output, "1000000")]);
    spec.factors = vec![(FactorKind::Speed, ShortName::new("fast"), factor("100"))];
    let mut fast = most;
    fast.speed = ShortName::new("fast");
    // A price is never more than the highest that is accepted.
    assert_eq!(cost(&Price::new([spec]), &fast).0, "170000000000");
}

#[test]
fn numbers_that_are_no_price_or_factor_are_refused() {
    for (text, error) in [
        ("-1", AmountError::Negative),
        ("1000001", AmountError::TooLarge),
        ("0.0000000001", AmountError::TooFine),
    ] {
        assert_eq!(Amount::new(text.parse().unwrap()), Err(error), "{text}");
    }
    assert_eq!(amount("1.500000000000").usd().to_string(), "1.5");
    for text in ["0", "-1", "101", "0.0000000001"] {
        assert_eq!(
            Factor::new(text.parse().unwrap()),
            Err(FactorError),
            "{text}"
        );
    }
}

#[test]
fn the_model_that_served_is_priced() {
    let price = |text| flat(&[(Class::Input, text)]);
    let table = PriceTable::new([
        ("mine/m".to_owned(), price("1")),
        ("openai/m".to_owned(), price("2")),
        ("openai/gpt-4o".to_owned(), price("3")),
        ("openai/gpt-4.1".to_owned(), price("4")),
    ]);
    for (id, model, served, expected, inexact) in [
        ("mine", "m", None, "1", ""),
        ("other", "m", None, "2", ""),
        ("other", "gpt-4o", Some("gpt-4o-2024-08-06"), "3", ""),
        ("other", "gpt-4o", Some("gpt-4.1-2025-04-14"), "4", ""),
        ("other", "alias", Some("gpt-4o-2024-08-06"), "3", ""),
        ("other", "alias", Some("unknown"), "none", ""),
        (
            "other",
            "gpt-4o",
            Some("unknown"),
            "3",
            "served_model_differs",
        ),
        ("other", "gpt-4o", Some("models/GPT-4o"), "3", ""),
        // The operator's own price for this deployment stands.
        ("mine", "m", Some("gpt-4o"), "1", ""),
        ("mine", "m", Some("unknown"), "1", ""),
    ] {
        let found = table.find_served(id, "openai", model, served);
        let cost = found
            .price
            .map(|price| usd(price.cost(&usage(1_000_000, 0), noon())));
        let case = format!("{id} {model} {served:?}");
        assert_eq!(cost.as_deref().unwrap_or("none"), expected, "{case}");
        assert_eq!(found.inexact.to_text(), inexact, "{case}");
    }
}

#[test]
fn reasons_of_a_usage_stay() {
    let mut request = usage(1, 1);
    request.inexact.add(Reason::UsageMissing);
    let price = flat(&[(Class::Input, "1"), (Class::Output, "1")]);
    assert!(
        price
            .charge(&request, noon())
            .inexact
            .contains(Reason::UsageMissing)
    );
    assert!(
        Charge::unpriced(&request)
            .inexact
            .contains(Reason::UsageMissing)
    );
}
