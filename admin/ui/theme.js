// The theme: that of the system, light or dark.

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

/** Switches to the next theme and returns its name. */
export function nextTheme() {
  const next = { "": "light", light: "dark", dark: "" }[chosen()];
  localStorage.setItem(STORED, next);
  applyTheme();
  return themeName();
}
