//! The book of budgets that replicas share, in Redis: reservations that let themselves go, and what
//! each run has spent. One script and one round trip for each question; what follows from an answer
//! is the caller's.

use std::sync::LazyLock;

use llm_router_domain::budget::replica::{DIGITS, rounded_up};
use llm_router_domain::budget::shared::{
    Change, Claim, Claimed, Figures, News, NewsLine, Standing,
};
use redis::{Script, ScriptInvocation};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use uuid::Uuid;

use crate::counters::Counters;
use crate::lease::millis;
use crate::link::Down;
use crate::names;

static RESERVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/money.lua"),
        include_str!("scripts/reserve.lua")
    ))
});

static TELL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/money.lua"),
        include_str!("scripts/tell.lua")
    ))
});

/// Numbers of an answer for each line.
const NUMBERS: usize = 4;

impl Counters {
    /// Holds an amount on every line, or on none.
    ///
    /// # Errors
    /// When Redis doesn't answer in time. It may hold the amount all the same, so it should be told
    /// what became of it.
    pub async fn reserve(&self, claim: &Claim) -> Result<Claimed, Down> {
        let mut call = self.question(&RESERVE, claim.lines.iter().map(|line| &*line.name));
        call.arg(claim.run)
            .arg(claim.id.to_string())
            .arg(claim.instead.map_or_else(String::new, |id| id.to_string()));
        add_money(&mut call, claim.amount);
        call.arg(millis(claim.lasts));
        for line in &claim.lines {
            add_money(&mut call, line.ceiling);
            add_money(&mut call, line.spent);
        }
        let answer: Vec<String> = self.call(&call).await?;
        read_claimed(&answer).ok_or(Down)
    }

    /// Tells what was spent, and what becomes of a reservation. Telling it again changes nothing.
    ///
    /// # Errors
    /// When Redis doesn't answer in time. It may have heard all the same.
    pub async fn tell(&self, news: &News) -> Result<Vec<Standing>, Down> {
        let mut call = self.question(&TELL, news.lines.iter().map(|line| &*line.name));
        add_change(&mut call, news.change);
        for line in &news.lines {
            add_line(&mut call, line);
        }
        let answer: Vec<String> = self.call(&call).await?;
        let lines = answer.get(1..).ok_or(Down)?.chunks_exact(NUMBERS + 1);
        let standing = |numbers: &[String]| {
            Some(Standing {
                known: numbers[0] == "1",
                figures: figures(&numbers[1..])?,
            })
        };
        let standings: Vec<Standing> = lines.filter_map(standing).collect();
        (standings.len() == news.lines.len())
            .then_some(standings)
            .ok_or(Down)
    }

    fn question<'s, 'l>(
        &self,
        script: &'s Script,
        lines: impl Iterator<Item = &'l str>,
    ) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        call.key(names::fence(self.link().replica()));
        for line in lines {
            call.key(names::budget(line)).key(names::holds(line));
        }
        call.arg(self.link().connection_number());
        call
    }
}

fn add_change(call: &mut ScriptInvocation<'_>, change: Change) {
    let (word, id, amount, lasts) = match change {
        Change::None => ("none", None, Decimal::ZERO, 0),
        Change::Release(id) => ("release", Some(id), Decimal::ZERO, 0),
        Change::Hold { id, amount, lasts } => ("hold", Some(id), amount, millis(lasts)),
    };
    call.arg(word)
        .arg(id.as_ref().map_or_else(String::new, Uuid::to_string));
    add_money(call, amount);
    call.arg(lasts);
}

fn add_line(call: &mut ScriptInvocation<'_>, line: &NewsLine) {
    call.arg(u8::from(line.whole)).arg(line.spent.len());
    for (run, spent) in &line.spent {
        call.arg(*run);
        add_money(call, *spent);
    }
}

/// USD as whole ones and 10⁻¹⁵ of one: two integers that Lua's doubles hold exactly.
fn add_money(call: &mut ScriptInvocation<'_>, usd: Decimal) {
    let usd = rounded_up(usd);
    let whole = usd.trunc();
    let part = (usd - whole) * Decimal::from(10_u64.pow(DIGITS));
    call.arg(whole.to_i64().unwrap_or(i64::MAX))
        .arg(part.to_i64().unwrap_or_default());
}

fn read_claimed(answer: &[String]) -> Option<Claimed> {
    let held = match answer.first()?.as_str() {
        "unknown" => return Some(Claimed::Unknown),
        "held" => true,
        "full" => false,
        _ => return None,
    };
    let position: usize = answer.get(1)?.parse().ok()?;
    let lines = answer.get(2..)?.chunks_exact(NUMBERS);
    let figures = lines.map(figures).collect::<Option<Vec<_>>>()?;
    Some(if held {
        Claimed::Held(figures)
    } else {
        Claimed::Exceeded {
            position: position.checked_sub(1)?,
            figures,
        }
    })
}

fn figures(numbers: &[String]) -> Option<Figures> {
    let [spent, spent_part, reserved, reserved_part] = numbers else {
        return None;
    };
    Some(Figures {
        spent: usd(spent, spent_part)?,
        reserved: usd(reserved, reserved_part)?,
    })
}

fn usd(whole: &str, part: &str) -> Option<Decimal> {
    let part = Decimal::new(part.parse().ok()?, DIGITS);
    Some(Decimal::from(whole.parse::<i64>().ok()?) + part)
}
