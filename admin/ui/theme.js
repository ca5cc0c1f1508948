// Light or dark: the system's, unless somebody chose.

const STORED = "llm-router-theme";
const NAMES = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };

/** @returns {keyof typeof NAMES} */
function chosen() {
  const stored = localStorage.getItem(STORED);
  return stored === "light" || stored === "dark" ? stored : "";
}

export const themeName = () => NAMES[chosen()];

export function applyTheme() {
  document.documentElement.dataset.theme = chosen();
}

/** Goes on to the next one, and gives its name. */
export function nextTheme() {
  const next = { "": "light", light: "dark", dark: "" }[chosen()];
  localStorage.setItem(STORED, next);
  applyTheme();
  return themeName();
}
