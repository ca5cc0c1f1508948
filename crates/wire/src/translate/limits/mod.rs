//! Fits a request to the limits of its target before it is written: what is too long, too many or
//! of a kind that the provider refuses is changed or left out, and reported. The limits themselves
//! are in [`table`]. It must not write a format, and must not know how one spells a field.

mod media;
mod names;
mod output_schema;
mod prompt;
mod sampling;
mod schema_walk;
mod strict;
mod table;
mod tool_schema;

use llm_router_domain::format::Format;

pub use table::limits_as_markdown;
pub(crate) use table::{GEMINI, TargetLimits};

use super::json::Object;
use super::neutral::{Message, NeutralRequest, Part, PartKind};
use super::options::ChatDialect;
use super::policy::Losses;

/// The names that clients have for the ceiling of output, the one that counts first.
const CEILINGS: [&str; 3] = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

/// Destination of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'t> {
    pub(crate) format: Format,
    pub(crate) dialect: ChatDialect,
    /// The provider's name of the model.
    pub(crate) model: &'t str,
    /// The most tokens of output that the model gives, where that is known.
    pub(crate) max_output: Option<u64>,
    /// The client's name of the field that bounds the output, if it gave one.
    pub(crate) ceiling: Option<&'static str>,
}

/// Returns the name under which a request bounds its output.
pub(crate) fn ceiling_name(request: &Object<'_>) -> Option<&'static str> {
    CEILINGS.into_iter().find(|name| request.has(name))
}

/// Changes what the target doesn't take. Returns the tools' names that changed: as sent, and as the
/// client knows them.
pub(crate) fn fit(
    request: &mut NeutralRequest<'_>,
    target: Destination<'_>,
    losses: &mut Losses,
) -> Vec<(String, String)> {
    let limits = table::limits(target.format, target.dialect);
    sampling::fit(request, target, limits, losses);
    media::fit(&mut request.messages, limits, losses);
    prompt::fit(request, target, limits, losses);
    tool_schema::fit(request, limits, losses);
    strict::fit(request, limits, losses);
    if limits.closed_output {
        output_schema::fit(&mut request.output, losses);
    }
    names::fit_user(request, limits, losses);
    names::fit_ids(&mut request.messages, limits);
    names::fit_tool_count(request, limits, losses);
    names::fit_tool_names(request, limits)
}

/// Calls `change` for every part of a conversation, those inside of tool results included.
fn each_part<'a>(messages: &mut [Message<'a>], mut change: impl FnMut(&mut Part<'a>)) {
    for part in messages.iter_mut().flat_map(|message| &mut message.parts) {
        change(part);
        if let PartKind::ToolResult(result) = &mut part.kind {
            result.parts.iter_mut().for_each(&mut change);
        }
    }
}
