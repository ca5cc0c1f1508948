// Ranges of days for costs.

/** @typedef {{ name: string, from: string | null, to: string | null, label: string }} Range */

/** @type {[string, string][]} */
export const RANGES = [["7d", "Last 7 days"], ["30d", "Last 30 days"], ["month", "This month"], ["last-month", "Last month"], ["year", "This year"], ["all", "All time"]];

/** @param {Date} date */
const day = (date) => date.toISOString().slice(0, 10);

/**
 * @param {URLSearchParams} query
 * @param {string} today
 * @returns {Range}
 */
export function rangeOf(query, today) {
  const [from, to] = [query.get("from"), query.get("to")];
  if (from || to) return { name: "", from, to, label: `${from ?? "Start"} to ${to ?? "today"}` };
  const known = RANGES.find(([name]) => name === query.get("range")) ?? RANGES[2];
  const [name, label] = known;
  return { name, label, ...bounds(name, today) };
}

/**
 * @param {string} name
 * @param {string} today
 */
function bounds(name, today) {
  const [year, month] = today.split("-").map(Number);
  const before = (/** @type {number} */ days) => day(new Date(Date.parse(today) - days * 86_400_000));
  switch (name) {
    case "7d": return { from: before(6), to: today };
    case "30d": return { from: before(29), to: today };
    case "last-month": return { from: day(new Date(Date.UTC(year, month - 2, 1))), to: day(new Date(Date.UTC(year, month - 1, 0))) };
    case "year": return { from: `${year}-01-01`, to: today };
    case "all": return { from: null, to: null };
    default: return { from: `${today.slice(0, 7)}-01`, to: today };
  }
}
