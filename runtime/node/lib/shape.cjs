'use strict';

const { isObject } = require('./sources.cjs');

const NAMES = { string: 'text', number: 'a number', boolean: 'true or false', object: 'an object', any: 'anything' };
const KIND = /^(string|number|boolean|object|any)(\[\])?(\?)?$/;

// {value, problems}: the value as the shape has it. Keys that the shape does not have are left out, not refused: the
// version before and the next one read the same parameters. `texts`: numbers, truth and JSON may come as text.
function shaped(value, shape, texts) {
  const problems = [];
  return { value: structure(value, shape, '', texts, problems), problems };
}

function structure(value, shape, at, texts, problems) {
  const given = texts && typeof value === 'string' ? json(value) : value;
  if (!isObject(given)) return wrong(value, 'an object', at, problems);
  const made = {};
  for (const [key, kind] of Object.entries(shape)) {
    const place = at ? `${at}.${key}` : key;
    const optional = typeof kind === 'string' && kind.endsWith('?');
    const one = Object.hasOwn(given, key) ? given[key] : undefined;
    if (one === undefined || (one === null && optional)) {
      if (!optional) {
        const near = Object.keys(given).find((other) => !Object.hasOwn(shape, other) && alike(other, key));
        problems.push(`${place} is missing${near ? ` (there is ${near})` : ''}`);
      }
    } else if (typeof kind === 'string') {
      made[key] = scalar(one, kind, place, texts, problems);
    } else {
      made[key] = structure(one, kind, place, texts, problems);
    }
  }
  return made;
}

function scalar(value, kind, at, texts, problems) {
  const [, base, list] = KIND.exec(kind) ?? [];
  if (!base) throw new TypeError(`${at}: '${kind}' is no kind; there are ${Object.keys(NAMES)}, each with [] and ?`);
  if (!list) {
    const given = texts && typeof value === 'string' ? fromText(value, base) : value;
    const fits = base === 'any' || (base === 'object' ? isObject(given) : typeof given === base);
    return fits ? given : wrong(value, NAMES[base], at, problems);
  }
  let given = value;
  if (texts && typeof value === 'string') given = json(value) ?? [value]; // a list of one, as a parameter of type String
  if (!Array.isArray(given)) return wrong(value, 'a list', at, problems);
  return given.map((one, n) => scalar(one, base, `${at}[${n}]`, texts, problems));
}

function fromText(text, base) {
  if (base === 'number') return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
  if (base === 'boolean') return { true: true, false: false }[text.trim().toLowerCase()] ?? text;
  return base === 'object' ? json(text) : text;
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// Values stay unnamed: the log is not the place for a password.
function wrong(value, expected, at, problems) {
  const seen = value === null ? 'null' : Array.isArray(value) ? 'a list' : NAMES[typeof value];
  problems.push(`${at || 'it'} is ${seen === expected ? `another ${expected}` : seen}, and should be ${expected}`);
  return undefined;
}

// Equal but for case and signs, or one letter more, fewer, other, or two exchanged.
function alike(one, other) {
  const [a, b] = [one, other].map((word) => word.toLowerCase().replace(/[^a-z0-9]/g, ''));
  let start = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  return Math.max(left.length, right.length) < 2 || (left.length === 2 && left === [...right].reverse().join(''));
}

module.exports = { shaped };
