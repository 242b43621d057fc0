// Elements, without any HTML in strings.

/** An element with properties, `data-*` under `dataset`, attributes under `attributes`, and children. */
export function element(name, properties = {}, ...children) {
  const { dataset = {}, attributes = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(name), rest);
  Object.assign(made.dataset, dataset);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Replaces the content of an element; the control that has the focus keeps it, as itself or by its `data-focus`. */
export function replaceContent(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  parent.replaceChildren(...children.filter((child) => child !== null));
  const same = focused?.isConnected ? focused : parent.querySelector(`[data-focus="${focused?.dataset.focus}"]`);
  same?.focus();
}
