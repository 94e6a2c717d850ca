'use strict';

const Negotiator = require('negotiator');

const WORDS = { en: 'Hello', sv: 'Hej', fr: 'Bonjour', de: 'Hallo' };

// `languages` is written as in an Accept-Language header; what we do not speak is answered in English.
function greet({ name, languages = 'en' }) {
  if (typeof name !== 'string' || name.trim() === '') {
    throw new TypeError('name must be a text with something in it');
  }
  const wanted = new Negotiator({ headers: { 'accept-language': languages } });
  const word = WORDS[wanted.language(Object.keys(WORDS)) ?? 'en'];
  return `${word}, ${name.trim()}!`;
}

module.exports = { greet };
