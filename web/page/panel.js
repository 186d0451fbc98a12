// What the panels have in common: their style sheet, their dialogs and their fields.

import { addStrings, translate } from './strings.js';

addStrings({
  close: ['Done', '完成'],
  auto: ['Automatic', '自动'],
});

let loading;

/** Resolves when the panels' style sheet applies. */
export function styled() {
  loading ??= new Promise((done, fail) => {
    const link = make('link', { rel: 'stylesheet', href: new URL('panels.css', import.meta.url), onload: done });
    link.onerror = () => {
      link.remove();
      loading = undefined;
      fail(new Error('no style sheet'));
    };
    document.head.append(link);
  });
  return loading;
}

/** A dialog with a heading and a form. */
export function dialog(id, title, ...content) {
  const element = make('dialog', { id });
  const form = make('form', { method: 'dialog' });
  element.dataset.label = title;
  form.append(make('h2', {}, title), ...content);
  element.append(form);
  element.onclick = ({ target }) => {
    if (target === element) element.close();
  };
  document.body.append(element);
  return element;
}

/** Opens a dialog. */
export async function show(element) {
  await styled();
  translate(element);
  if (!element.open) element.showModal();
}

/** A control with its name beside it. */
export function labelled(key, ...controls) {
  const label = make('label', { className: controls[0].type });
  label.append(make('span', {}, key), ...controls);
  return label;
}

/** An element with properties, and the text that `key` stands for. */
export function make(tag, properties = {}, key) {
  const element = Object.assign(document.createElement(tag), properties);
  if (key) element.dataset.text = key;
  return element;
}
