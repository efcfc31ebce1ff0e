import {
  byId,
  call,
  describeProblem,
  distanceOf,
  draw,
  element,
  identifier,
  link,
  pairs,
  refreshDistances,
  repeat,
  usdc,
} from './page.js';

const refreshMs = 5_000;

/** The front page: what is where on this instance, and what happened last. */
export async function showOverview() {
  byId('overview').hidden = false;
  drawPlaces([]);
  let newestEvent;
  let isComplete = false;
  await repeat(refreshMs, async () => {
    const [events, ...others] = await Promise.all([loadEvents(), ...(isComplete ? [] : loadOthers())]);
    refreshDistances();
    if (events === undefined) return;
    const newest = events.data[0]?.id;
    // Servers and balances change with an event, so they are asked for again only after one.
    const fresh = isComplete && newest !== newestEvent ? await Promise.all(loadOthers()) : others;
    isComplete = fresh.every((loaded) => loaded !== undefined);
    newestEvent = newest;
  });
}

const loadEvents = () => load('events', '/audit-logs?limit=20', drawEvents);
const loadOthers = () => [
  load('servers', '/v1/servers?limit=100', (servers) => {
    drawPlaces(servers.data);
    return drawServers(servers);
  }),
  load('wallets', '/v1/wallets', drawWallets),
];

/** Fills one section. A failure stands below what was there, and never replaces it. */
async function load(sectionId, path, build) {
  const panel = byId(sectionId).querySelector('.panel');
  const problems = byId(sectionId).querySelector('.problem-slot');
  try {
    const data = await call(path);
    draw(panel, data, build);
    problems.replaceChildren();
    return data;
  } catch (error) {
    panel.removeAttribute('aria-busy');
    if (error.status === 401)
      problems.replaceChildren(element('p', { class: 'quiet' }, 'Shown after sign-in.'));
    else draw(problems, [error.message, error.requestId], () => describeProblem(error));
  }
}

function drawPlaces(servers) {
  const gateway = servers.length === 0 ? undefined : new URL(servers[0].url).origin;
  const entries = [
    ['API', element('code', {}, `${location.origin}/v1`)],
    ['Gateway', gateway ? element('code', {}, gateway) : 'not known yet'],
    ['OpenAPI document', link(`${location.origin}/v1/openapi.json`)],
    ['Signing keys (JWKS)', link(`${location.origin}/.well-known/jwks.json`)],
  ];
  draw(byId('places'), gateway ?? '', () => pairs(entries));
}

function drawServers(servers) {
  const published = servers.data.filter((server) => server.state === 'published');
  const drafts = servers.data.length - published.length;
  const notes = [];
  if (published.length === 0) notes.push('No API is published yet.');
  if (drafts > 0) notes.push(drafts === 1 ? 'One more is a draft.' : `${drafts} more are drafts.`);
  if (servers.has_more) notes.push('There are more: see GET /v1/servers.');
  return [
    ...(published.length > 0 ? [element('ul', { class: 'cards' }, ...published.map(drawServer))] : []),
    element('p', { class: 'quiet' }, notes.join(' ')),
  ];
}

function drawServer(server) {
  return element(
    'li',
    {},
    element('h3', { dir: 'auto' }, server.name),
    element('p', { dir: 'auto' }, server.description),
    element('p', { class: 'address' }, link(server.url)),
  );
}

function drawWallets(wallets) {
  if (wallets.data.length === 0) return [element('p', { class: 'quiet' }, 'This environment has no wallet.')];
  const items = wallets.data.map((wallet) =>
    element(
      'li',
      {},
      element('p', { class: 'amount' }, usdc(wallet.balances.USDC)),
      element('p', {}, identifier(wallet.address)),
      element('p', { class: 'quiet' }, `on ${wallet.network}`),
    ),
  );
  return [element('ul', { class: 'plain' }, ...items)];
}

/** The roles repeat what a table is: on a phone its rows are laid out as grids, and browsers then forget. */
function drawEvents(events) {
  if (events.data.length === 0) return [element('p', { class: 'quiet' }, 'Nothing has happened yet.')];
  const heads = ['When', 'What', 'By', 'On'].map((name) =>
    element('th', { scope: 'col', role: 'columnheader' }, name),
  );
  const rows = events.data.map((event) =>
    drawRow([
      distanceOf(event.created_at),
      element('code', {}, event.action),
      drawActor(event.actor),
      identifier(event.resource),
    ]),
  );
  return [
    element(
      'table',
      { role: 'table', 'aria-labelledby': 'events-title' },
      element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, ...heads)),
      element('tbody', { role: 'rowgroup' }, ...rows),
    ),
  ];
}

function drawRow(cells) {
  return element('tr', { role: 'row' }, ...cells.map((cell) => element('td', { role: 'cell' }, cell)));
}

function drawActor({ kind, id }) {
  const name = element('span', { class: 'kind' }, kind.replaceAll('_', ' '));
  return id === kind ? name : element('span', { class: 'actor' }, name, identifier(id));
}
