import {
  byId,
  call,
  dateOf,
  describeProblem,
  distanceOf,
  draw,
  element,
  identifier,
  pairs,
  plain,
} from './page.js';

/** The page where a person links an agent. `id` is as it stands in the address, percent-encoded. */
export async function showLink(id) {
  byId('link').hidden = false;
  const path = `/v1/agent-links/${id}`;
  byId('link-answer').addEventListener('submit', (event) => {
    event.preventDefault();
    void answer(`${path}/approve`, { user_code: byId('link-code').value }, linked);
  });
  byId('link-refuse').addEventListener('click', () => void answer(`${path}/refuse`, {}, refused));
  try {
    drawRequest(await call(path));
  } catch (error) {
    drawEnd(...endOf(error));
  }
}

const linked = ['This agent is linked', 'It may ask you for a budget now, and spends nothing without one.'];
const refused = [
  'You refused',
  'The agent is not linked. It can ask again with a new address and a new code.',
];

const nothingWaits = [
  'Nothing waits here',
  'The request was answered, or is too old. The agent can ask again with a new address and a new code.',
];

async function answer(path, body, [title, lead]) {
  setBusy(true);
  drawProblem();
  try {
    const headers = { 'content-type': 'application/json' };
    await call(path, { method: 'POST', headers, body: JSON.stringify(body) });
    drawEnd(title, lead);
    byId('link-title').focus();
  } catch (error) {
    drawProblem(error);
  } finally {
    setBusy(false);
  }
}

function endOf({ status, message }) {
  if (status === 404) return nothingWaits;
  return [status === 401 ? 'Sign-in comes with the console' : 'The request cannot be read', message];
}

function drawRequest(request) {
  setHeadline('An agent asks to be linked', 'Link it if you know it, and it shows you the code.');
  draw(byId('link-body'), request, () => [
    element('p', { class: 'quiet' }, 'Name and description are the agent’s own words, unverified.'),
    element(
      'dl',
      { class: 'facts' },
      ...pairs([
        ['Calls itself', element('bdi', {}, plain(request.agent_name))],
        ['Describes itself as', element('bdi', {}, plain(request.client_info))],
        ['Agent', identifier(request.agent_id)],
        ['Registered', distanceOf(request.registered_at)],
        ['Asked from', request.asked_from ?? 'unknown'],
        ['To be answered by', dateOf(request.expires_at)],
      ]),
    ),
  ]);
  byId('link-answer').hidden = false;
}

function drawEnd(title, lead) {
  setHeadline(title, lead);
  byId('link-body').removeAttribute('aria-busy');
  byId('link-body').hidden = byId('link-body').childElementCount === 0;
  byId('link-answer').hidden = true;
}

function setHeadline(title, lead) {
  byId('link-title').textContent = title;
  byId('link-lead').textContent = lead;
  document.title = `${title} · Credence`;
}

function setBusy(isOn) {
  for (const id of ['link-approve', 'link-refuse']) byId(id).disabled = isOn;
}

function drawProblem(error) {
  draw(byId('link-problem'), error ? [error.message, error.requestId] : null, () =>
    error ? describeProblem(error) : [],
  );
}
