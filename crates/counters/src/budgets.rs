//! Shared budgets in Redis: reservations that expire, and the spending of each run. Each call is
//! one script and one round trip. It must not decide what follows from an answer.

use std::sync::LazyLock;

use llm_router_domain::budget::replica::{FRACTION_DIGITS, round_up};
use llm_router_domain::budget::shared::{
    LineStatus, LineTotals, Reservation, ReservationChange, ReserveOutcome, SpendUpdate,
    SpendUpdateLine,
};
use redis::{Script, ScriptInvocation};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use uuid::Uuid;

use crate::connection::{CheckedCall, Counters};
use crate::lease::millis;
use crate::link::Unavailable;
use crate::names;

static RESERVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/clock.lua"),
        include_str!("scripts/money.lua"),
        include_str!("scripts/epoch.lua"),
        include_str!("scripts/reserve.lua")
    ))
});

static APPLY_UPDATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/clock.lua"),
        include_str!("scripts/money.lua"),
        include_str!("scripts/epoch.lua"),
        include_str!("scripts/apply_update.lua")
    ))
});

/// Numbers in an answer for each line.
const NUMBERS: usize = 4;

impl Counters {
    /// Reserves an amount on every line, or on none.
    ///
    /// # Errors
    /// Returns an error if Redis doesn't answer in time. It may hold the amount nevertheless, so
    /// the end of the reservation must be reported.
    pub async fn reserve(&self, reservation: &Reservation) -> Result<ReserveOutcome, Unavailable> {
        let mut checked =
            self.prepare_call(&RESERVE, reservation.lines.iter().map(|line| &*line.name));
        let call = &mut checked.invocation;
        call.arg(reservation.run)
            .arg(reservation.id.to_string())
            .arg(
                reservation
                    .replaces
                    .map_or_else(String::new, |id| id.to_string()),
            );
        add_money(call, reservation.amount);
        call.arg(millis(reservation.lasts));
        for line in &reservation.lines {
            add_money(call, line.ceiling);
            add_money(call, line.spent);
        }
        let answer: Vec<String> = self.call_checked(checked).await?;
        if self.notes_new_epoch(&answer) {
            return Ok(ReserveOutcome::Forgotten);
        }
        read_reserve_outcome(&answer).ok_or(Unavailable)
    }

    /// Reports spending and the change of a reservation. Idempotent.
    ///
    /// # Errors
    /// Returns an error if Redis doesn't answer in time, when it may have applied the update, and if
    /// it has lost its data.
    pub async fn apply_spend_update(
        &self,
        update: &SpendUpdate,
    ) -> Result<Vec<LineStatus>, Unavailable> {
        let mut checked =
            self.prepare_call(&APPLY_UPDATE, update.lines.iter().map(|line| &*line.name));
        let call = &mut checked.invocation;
        add_change(call, update.change);
        for line in &update.lines {
            add_line(call, line);
        }
        let answer: Vec<String> = self.call_checked(checked).await?;
        if self.notes_new_epoch(&answer) {
            return Err(Unavailable);
        }
        let lines = answer
            .get(1..)
            .ok_or(Unavailable)?
            .chunks_exact(NUMBERS + 1);
        let status = |numbers: &[String]| {
            Some(LineStatus {
                known: numbers[0] == "1",
                figures: read_totals(&numbers[1..])?,
            })
        };
        let statuses: Vec<LineStatus> = lines.filter_map(status).collect();
        (statuses.len() == update.lines.len())
            .then_some(statuses)
            .ok_or(Unavailable)
    }

    fn prepare_call<'s, 'l>(
        &self,
        script: &'s Script,
        lines: impl Iterator<Item = &'l str>,
    ) -> CheckedCall<'s> {
        let mut call = self.prepare(script);
        for line in lines {
            let invocation = &mut call.invocation;
            invocation.key(names::budget(line)).key(names::holds(line));
        }
        call.invocation.arg(self.link().connection_number());
        call
    }

    /// Records the epoch if that is the answer. Returns true if it is.
    fn notes_new_epoch(&self, answer: &[String]) -> bool {
        match answer {
            [word, epoch] if word == "epoch" => {
                self.link().note_epoch(epoch.clone());
                true
            }
            _ => false,
        }
    }
}

fn add_change(call: &mut ScriptInvocation<'_>, change: ReservationChange) {
    let (word, id, amount, lasts) = match change {
        ReservationChange::None => ("none", None, Decimal::ZERO, 0),
        ReservationChange::Release(id) => ("release", Some(id), Decimal::ZERO, 0),
        ReservationChange::Hold { id, amount, lasts } => ("hold", Some(id), amount, millis(lasts)),
    };
    call.arg(word)
        .arg(id.as_ref().map_or_else(String::new, Uuid::to_string));
    add_money(call, amount);
    call.arg(lasts);
}

fn add_line(call: &mut ScriptInvocation<'_>, line: &SpendUpdateLine) {
    call.arg(u8::from(line.complete)).arg(line.spent.len());
    for (run, spent) in &line.spent {
        call.arg(*run);
        add_money(call, *spent);
    }
}

/// Adds USD as two integers that Lua's doubles hold exactly: whole USD and units of 10⁻¹⁵ USD.
fn add_money(call: &mut ScriptInvocation<'_>, usd: Decimal) {
    let usd = round_up(usd);
    let whole = usd.trunc();
    let part = (usd - whole) * Decimal::from(10_u64.pow(FRACTION_DIGITS));
    call.arg(whole.to_i64().unwrap_or(i64::MAX))
        .arg(part.to_i64().unwrap_or_default());
}

fn read_reserve_outcome(answer: &[String]) -> Option<ReserveOutcome> {
    let held = match answer.first()?.as_str() {
        "unknown" => return Some(ReserveOutcome::Unknown),
        "held" => true,
        "full" => false,
        _ => return None,
    };
    let position: usize = answer.get(1)?.parse().ok()?;
    let lines = answer.get(2..)?.chunks_exact(NUMBERS);
    let figures = lines.map(read_totals).collect::<Option<Vec<_>>>()?;
    Some(if held {
        ReserveOutcome::Held(figures)
    } else {
        ReserveOutcome::Exceeded {
            position: position.checked_sub(1)?,
            figures,
        }
    })
}

fn read_totals(numbers: &[String]) -> Option<LineTotals> {
    let [spent, spent_part, reserved, reserved_part] = numbers else {
        return None;
    };
    Some(LineTotals {
        spent: usd(spent, spent_part)?,
        reserved: usd(reserved, reserved_part)?,
    })
}

fn usd(whole: &str, part: &str) -> Option<Decimal> {
    let part = Decimal::new(part.parse().ok()?, FRACTION_DIGITS);
    Some(Decimal::from(whole.parse::<i64>().ok()?) + part)
}
