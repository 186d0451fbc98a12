// The options of the overlay, read from its URL.

const DEFAULTS = {
  area: 1,
  density: 1,
  fontScale: 1,
  opacity: 1,
  speed: 1,
  modes: ['scroll', 'top', 'bottom'],
  history: 0,
  blockedWords: [],
  blockedUsers: [],
  encoding: 'auto',
  transports: ['websocket', 'sse', 'pull'],
};

/** How each parameter is read: the option's name, and a function that returns undefined for a bad value. */
const PARAMETERS = {
  area: ['area', number(0.1, 1)],
  density: ['density', number(0.1, 4)],
  font_scale: ['fontScale', number(0.4, 3)],
  opacity: ['opacity', number(0, 1)],
  speed: ['speed', number(0.25, 4)],
  modes: ['modes', someOf(DEFAULTS.modes)],
  history: ['history', number(0, 500, Number.isInteger)],
  blocked_words: ['blockedWords', words],
  blocked_users: ['blockedUsers', words],
  encoding: ['encoding', oneOf(['auto', 'identity', 'gzip', 'deflate'])],
  transports: ['transports', someOf(DEFAULTS.transports)],
};

/** The options of a query, and a warning for each part of it that is ignored. */
export function overlayOptions(query) {
  const options = { ...DEFAULTS };
  const warnings = [];
  for (const [parameter, text] of query) {
    const [option, read] = Object.hasOwn(PARAMETERS, parameter) ? PARAMETERS[parameter] : [];
    const value = read?.(text);
    if (!option) warnings.push(`overlay: unknown option "${parameter}"; known options: ${Object.keys(PARAMETERS).join(', ')}`);
    else if (value === undefined) warnings.push(`overlay: "${text}" is not a valid ${parameter}; using ${DEFAULTS[option]}`);
    else options[option] = value;
  }
  return { options, warnings };
}

function number(min, max, isValid = Number.isFinite) {
  return (text) => {
    const value = text.trim() === '' ? NaN : Number(text);
    return isValid(value) && value >= min && value <= max ? value : undefined;
  };
}

function oneOf(values) {
  return (text) => values.find((value) => value === text);
}

/** A list separated by commas, in the viewer's order. */
function someOf(values) {
  return (text) => {
    const chosen = words(text);
    return chosen.length && chosen.every((value) => values.includes(value)) ? chosen : undefined;
  };
}

function words(text) {
  return text.split(',').map((word) => word.trim()).filter(Boolean);
}
