/** What both views stand on: calls to the API, elements, and amounts and times as people read them. */

/** A call that failed. `status` is 0 where nothing answered. */
class Problem extends Error {
  constructor(status, detail, requestId) {
    super(detail);
    this.status = status;
    this.requestId = requestId;
  }
}

/** The JSON that the API answers. Throws `Problem` with the `detail` of problem+json. */
export async function call(path, init = {}) {
  const response = await send(path, init);
  const body = await response.json().catch(() => null);
  tellWhoActs(response.status);
  if (response.ok && body !== null) return body;
  const requestId = body?.request_id ?? response.headers.get('x-request-id');
  throw new Problem(response.status, body?.detail ?? `The server answered ${response.status}.`, requestId);
}

async function send(path, init) {
  try {
    // Cookies that other programs on localhost have set would make the server refuse the request.
    return await fetch(path, { ...init, credentials: 'omit', signal: AbortSignal.timeout(15_000) });
  } catch {
    tellWhoActs(0);
    throw new Problem(0, 'This instance does not answer. The page keeps trying.', null);
  }
}

const notices = {
  development:
    'Development mode: a request from this machine without a credential acts as the owner of the development organisation. This page relies on it.',
  signIn: 'Sign-in comes with the console. Until then, this instance answers to an API key.',
  trouble: 'This instance has trouble answering. The page keeps trying.',
};

/** Nothing here sends a credential: whatever gets past the 401 was answered as the development principal. */
function tellWhoActs(status) {
  const notice = byId('notice');
  const silent = status === 0 || status >= 500;
  if (silent && notice.dataset.kind !== undefined) return;
  const kind = silent ? 'trouble' : status === 401 ? 'signIn' : 'development';
  if (notice.dataset.kind === kind) return;
  notice.dataset.kind = kind;
  notice.textContent = notices[kind];
}

export function byId(id) {
  return document.getElementById(id);
}

/** An element with attributes; strings among the children become text, never markup. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A link, where the address is one of the web's; otherwise its text. */
export function link(address) {
  const isWeb = /^https?:\/\//.test(address);
  return isWeb ? element('a', { href: address }, address) : element('span', {}, address);
}

/** An id that shows its end when space is short: ids of one kind begin alike. Copying it gives all of it. */
export function identifier(text) {
  const head = element('span', { class: 'id-head' }, text.slice(0, -6));
  return element('code', { class: 'id', title: text }, head, element('span', {}, text.slice(-6)));
}

/** Characters that reorder or hide what stands around them are shown as what they are: not text. */
export function plain(text) {
  return text.replaceAll(/[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, '\ufffd');
}

/** A description list's pairs: `[term, value]`, the value text or a node. */
export function pairs(entries) {
  return entries.map(([term, value]) =>
    element('div', {}, element('dt', {}, term), element('dd', {}, value)),
  );
}

const shown = new WeakMap();

/** Draws data into a container, and again only when the data has changed, so that focus and selection stay. */
export function draw(container, data, build) {
  const key = JSON.stringify(data);
  container.removeAttribute('aria-busy');
  if (shown.get(container) === key) return;
  shown.set(container, key);
  container.replaceChildren(...build(data));
}

/** What went wrong, in the server's words, and the id that finds it in the server's log. */
export function describeProblem(problem) {
  const parts = [element('p', { class: 'problem' }, problem.message)];
  if (problem.requestId)
    parts.push(element('p', { class: 'quiet' }, 'Request ', identifier(problem.requestId)));
  return parts;
}

/** Atomic USDC (six decimals) as people read it: "1234567890" is "1,234.56789 USDC". */
export function usdc(atomic) {
  const amount = BigInt(atomic);
  const fraction = (amount % 1_000_000n)
    .toString()
    .padStart(6, '0')
    .replace(/0{0,4}$/, '');
  return `${(amount / 1_000_000n).toLocaleString('en')}.${fraction} USDC`;
}

const units = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
];

/** Seconds in words, exactly: 5400 is "1 hour 30 minutes". */
export function duration(seconds) {
  const parts = units.map(([name, size], place) => {
    const above = units[place - 1]?.[1] ?? Infinity;
    const count = Math.floor((seconds % above) / size);
    return count === 0 ? '' : `${count} ${name}${count === 1 ? '' : 's'}`;
  });
  return parts.filter((part) => part !== '').join(' ');
}

const dates = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
const distances = new Intl.RelativeTimeFormat('en', { numeric: 'always' });

/** A moment as its date. */
export function dateOf(iso) {
  return element('time', { datetime: iso }, dates.format(new Date(iso)));
}

/** A moment as its distance from now, kept fresh by `refreshDistances`. */
export function distanceOf(iso) {
  const title = dates.format(new Date(iso));
  return element('time', { datetime: iso, title, 'data-distance': '' }, distance(iso));
}

export function refreshDistances() {
  for (const time of document.querySelectorAll('time[data-distance]')) {
    const text = distance(time.dateTime);
    if (time.textContent !== text) time.textContent = text;
  }
}

function distance(iso) {
  const seconds = Math.round((Date.parse(iso) - Date.now()) / 1000);
  if (Math.abs(seconds) < 5) return 'just now';
  const [name, size] = units.find(([, length]) => Math.abs(seconds) >= length);
  return distances.format(Math.trunc(seconds / size), name);
}

/** Does the work now and then again and again, with the pause between two ends; not while nobody looks. */
export async function repeat(pauseMs, work) {
  for (;;) {
    if (!document.hidden) await work();
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
