// Builds elements. Data of the API only ever becomes text: nothing here parses markup, and the page's
// Content-Security-Policy forbids it (`require-trusted-types-for`).

/** @typedef {Node | string | number | boolean | null | undefined | Child[]} Child */
/** @typedef {Record<string, any>} Props */

/**
 * Builds an HTML element. `on…` are listeners, `style` is an object, `data` a data set; null and false
 * are left out.
 * @param {string} tag
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/**
 * Builds an SVG element.
 * @param {string} tag
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function svg(tag, props, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

/**
 * @param {any} element
 * @param {Props | null | undefined} props
 * @param {Child[]} children
 */
function build(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
  return children.flatMap((child) => {
    if (child === null || child === undefined || typeof child === "boolean") return [];
    if (Array.isArray(child)) return nodes(child);
    return [child instanceof Node ? child : String(child)];
  });
}

/**
 * Replaces the children of an element. The focus stays on the element with the same `data-focus`, if
 * there still is one.
 * @param {Element} box
 * @param {...Child} children
 */
export function fill(box, ...children) {
  const active = document.activeElement;
  const name = active instanceof HTMLElement && box.contains(active) ? active.dataset.focus : undefined;
  box.replaceChildren(...nodes(children));
  if (!name) return;
  for (const element of box.querySelectorAll("[data-focus]")) {
    if (element instanceof HTMLElement && element.dataset.focus === name) element.focus();
  }
}

let counted = 0;

/**
 * Returns an id that no other element has.
 * @param {string} name
 */
export function uniqueId(name) {
  counted += 1;
  return `${name}-${counted}`;
}
