import {
  byId,
  call,
  dateOf,
  describeProblem,
  distanceOf,
  draw,
  duration,
  element,
  identifier,
  pairs,
  plain,
  refreshDistances,
  repeat,
  usdc,
} from './page.js';

const refreshMs = 5_000;

/** The page where a person signs a mandate. `id` is as it stands in the address, percent-encoded. */
export async function showMandate(id) {
  byId('mandate').hidden = false;
  const path = `/v1/mandates/${id}`;
  byId('sign').addEventListener('click', () => void sign(path));
  await repeat(refreshMs, async () => {
    refreshDistances();
    // An answer that was under way while the person signed would show the state before.
    if (!isSigning()) await read(path);
  });
}

async function read(path) {
  try {
    const mandate = await call(path);
    if (isSigning()) return;
    drawMandate(mandate);
    if (byId('mandate-problem').dataset.from === 'read') drawProblem();
  } catch (error) {
    if (error.status === 404) drawNotice('There is no such mandate', notFound);
    else if (error.status === 401)
      drawNotice('Sign-in comes with the console', needsPerson, `The server says: ${error.message}`);
    else drawReadProblem(error);
  }
}

async function sign(path) {
  if (isSigning()) return;
  setSigning(true);
  drawProblem();
  try {
    const mandate = await call(`${path}/sign`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    drawMandate(mandate);
    byId('mandate-title').focus();
  } catch (error) {
    drawProblem(error, 'sign');
  } finally {
    setSigning(false);
  }
}

/** The button keeps its place and the focus while the server works. */
function setSigning(isOn) {
  const button = byId('sign');
  button.setAttribute('aria-disabled', String(isOn));
  button.textContent = isOn ? 'Signing…' : 'Sign this mandate';
}

const isSigning = () => byId('sign').getAttribute('aria-disabled') === 'true';

const needsPerson = 'A mandate is signed by a person who is signed in.';
const notFound =
  'The address may be incomplete, or the mandate belongs to another environment. Ask the agent for its authorizationUrl again.';

function drawMandate(mandate) {
  const { title, lead } = headline(mandate);
  setHeadline(title, lead);
  draw(byId('mandate-body'), mandate, buildMandate);
  byId('mandate-sign').hidden = mandate.status !== 'pending_signature';
}

function headline({ status, signedAt }) {
  if (status === 'pending_signature') {
    return {
      title: 'An agent asks for a budget',
      lead: 'Sign if you know this agent and want it to spend for you.',
    };
  }
  if (status === 'signed') {
    return { title: 'This mandate is signed', lead: 'The agent may pay within these limits.' };
  }
  if (status === 'exhausted') {
    return {
      title: 'This budget is used up',
      lead: 'All of it is spent or held; the agent can ask for another.',
    };
  }
  return signedAt === null
    ? { title: 'This request has expired', lead: 'Nobody signed it in time. The agent can ask again.' }
    : { title: 'This mandate has ended', lead: 'Its time is over; the agent can ask for another.' };
}

function buildMandate(mandate) {
  const parts = [buildLimits(mandate), buildWords(mandate), buildDetails(mandate)];
  return mandate.signedAt === null ? parts : [buildBudget(mandate), ...parts];
}

function buildLimits(mandate) {
  const perPayment = mandate.maxAmountPerTx === null ? 'all of it' : usdc(mandate.maxAmountPerTx);
  return element(
    'dl',
    { class: 'figures' },
    ...pairs([
      ['At most in all', usdc(mandate.limitAmount)],
      ['At most per payment', perPayment],
      [
        mandate.signedAt === null ? 'Valid, once signed, for' : 'Valid for',
        duration(mandate.validForSeconds),
      ],
    ]),
  );
}

/** The one place with text that the agent chose freely. It scrolls, so that it can't push the facts out of sight. */
function buildWords(mandate) {
  const words = { dir: 'auto', tabindex: '0', role: 'group', 'aria-labelledby': 'words-label' };
  const caption = element('figcaption', { id: 'words-label' }, 'In the agent’s own words, unverified');
  const quote = element('blockquote', words, plain(mandate.naturalLanguage));
  if (mandate.category === null) return element('figure', {}, caption, quote);
  const category = element('bdi', {}, plain(mandate.category));
  return element(
    'figure',
    {},
    caption,
    quote,
    element('p', { class: 'quiet' }, 'Category, as the agent calls it: ', category),
  );
}

function buildDetails(mandate) {
  const { hostAllowlist, signedAt, validForSeconds } = mandate;
  const hosts = element(
    'ul',
    { class: 'hosts' },
    ...hostAllowlist.map((host) => element('li', {}, element('code', {}, host))),
  );
  const entries = [
    ['May pay', hostAllowlist.length === 0 ? 'any host' : hosts],
    ['Agent', identifier(mandate.agentId)],
    ['Mandate', identifier(mandate.id)],
    ['Asked', distanceOf(mandate.createdAt)],
  ];
  if (signedAt === null) entries.push(['To be signed by', dateOf(mandate.expiresAt)]);
  else {
    const end = new Date(Date.parse(signedAt) + validForSeconds * 1000).toISOString();
    entries.push(['Signed', dateOf(signedAt)], ['Valid until', dateOf(end)]);
  }
  return element('dl', { class: 'facts' }, ...pairs(entries));
}

function buildBudget(mandate) {
  const amounts = [
    ['Spent', usdc(mandate.spentAmount)],
    ['Held', usdc(mandate.pendingSpentAmount)],
    ['Left', usdc(mandate.remainingAmount)],
  ];
  return element(
    'section',
    { class: 'budget', 'aria-label': 'Budget' },
    buildBar(mandate),
    element('dl', { class: 'figures' }, ...pairs(amounts)),
  );
}

/** Drawn as SVG, whose widths are attributes: the page's policy allows no style of an element's own. */
function buildBar({ spentAmount, pendingSpentAmount, limitAmount }) {
  const share = (atomic) => Number((BigInt(atomic) * 1000n) / BigInt(limitAmount));
  const bar = svg('svg', {
    class: 'bar',
    viewBox: '0 0 1000 8',
    preserveAspectRatio: 'none',
    'aria-hidden': 'true',
  });
  const spent = share(spentAmount);
  bar.append(
    svg('rect', { class: 'bar-spent', height: 8, width: spent }),
    svg('rect', { class: 'bar-held', height: 8, x: spent, width: share(pendingSpentAmount) }),
  );
  return bar;
}

function svg(tag, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

function setHeadline(title, lead) {
  byId('mandate-title').textContent = title;
  byId('mandate-lead').textContent = lead;
  document.title = `${title} · Credence`;
}

function drawNotice(title, lead, note = '') {
  setHeadline(title, lead);
  draw(byId('mandate-body'), note, () => [element('p', { class: 'quiet' }, note)]);
  byId('mandate-sign').hidden = true;
  drawProblem();
}

/** A mandate that was read stays in view; only before the first one there is nothing to keep. */
function drawReadProblem(error) {
  if (byId('mandate-body').hasAttribute('aria-busy')) {
    setHeadline('The mandate cannot be read', 'Nothing was changed.');
    byId('mandate-body').removeAttribute('aria-busy');
  }
  if (byId('mandate-problem').dataset.from !== 'sign') drawProblem(error, 'read');
}

/** Shows a failure below the button, or clears it; `from` says what has to succeed for it to go away. */
function drawProblem(error, from = '') {
  const slot = byId('mandate-problem');
  slot.dataset.from = from;
  draw(slot, error ? [error.message, error.requestId] : null, () => (error ? describeProblem(error) : []));
}
