// Amounts of money with their exact digits. JSON.parse would round the JSON numbers of the API, so
// amounts are read and shown as text, and never added up here.

const AMOUNTS = new Set([
  "cost_usd", "usd", "input", "cached_input", "cache_write_5m", "cache_write_1h", "cache_write",
  "output", "reasoning",
]);

const TOKENS = /"(?:[^"\\]|\\.)*"(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * Parses JSON like JSON.parse, but reads amounts of money (by the name of their field) as strings of
 * their digits.
 * @param {string} text
 * @returns {any}
 */
export function parseExact(text) {
  let field = "";
  const quoted = text.replace(TOKENS, (token, colon) => {
    if (token.startsWith('"')) {
      field = colon === undefined ? "" : JSON.parse(token.slice(0, token.length - colon.length));
      return token;
    }
    const amount = AMOUNTS.has(field);
    field = "";
    return amount ? `"${token}"` : token;
  });
  return JSON.parse(quoted);
}

/**
 * Converts an amount into a rounded number, for lengths on the screen only.
 * @param {string} amount
 */
export const roughly = (amount) => Number(amount);

/**
 * Returns true if an amount is zero.
 * @param {string} amount
 */
export const isZero = (amount) => /^-?[0.]*(?:[eE].*)?$/.test(amount);

/**
 * Splits an amount for display: the emphasised part, and the digits below the cent.
 * @param {string} amount
 * @returns {{ groups: string[], cents: string, rest: string }}
 */
export function amountParts(amount) {
  if (/[eE]/.test(amount)) return { groups: [amount], cents: "", rest: "" };
  const [whole, fraction = ""] = amount.split(".");
  const groups = whole.match(/^-?\d{1,3}(?=(?:\d{3})*$)|\d{3}/g) ?? [whole];
  const faint = /[1-9]/.test(whole) ? fraction.slice(2) : "";
  const clear = fraction.slice(0, fraction.length - faint.length);
  return { groups, cents: clear && `.${clear}`, rest: faint };
}
