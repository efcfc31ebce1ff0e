/**
 * One paid call, end to end, against a running instance in development mode: an agent registers, asks for a budget, a person
 * signs, the agent calls an API that costs a cent, and what happened can be read afterwards.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import {
  createClient,
  createPayingFetch,
  CredenceError,
  type PaymentTerms,
  readSettlement,
  unwrap,
} from '../src/index.ts';

interface DevelopmentInfo {
  api_url: string;
  demo_url: string;
  api_key: string;
}

const steps = { count: 0 };

function say(title: string, ...lines: string[]): void {
  steps.count += 1;
  console.log(`\n${steps.count}. ${title}`);
  for (const line of lines) console.log(`   ${line}`);
}

async function readDevelopmentInfo(): Promise<DevelopmentInfo> {
  const file = join(resolve(process.env['CREDENCE_DATA_DIR'] ?? '.credence'), 'dev.json');
  try {
    return JSON.parse(await readFile(file, 'utf8')) as DevelopmentInfo;
  } catch {
    throw new Error(
      `there is no ${file}: run "npm start" in another terminal first (with the same CREDENCE_DATA_DIR)`,
    );
  }
}

async function run(): Promise<void> {
  const info = await readDevelopmentInfo();
  // Without a credential, this machine acts as the owner: here, the person who signs.
  const owner = createClient({ apiUrl: info.api_url });
  const backend = createClient({ apiUrl: info.api_url, credential: info.api_key });

  const registration = { agent_name: 'Sunday painter', client_info: 'credence-demo' };
  const agent = await unwrap(owner.POST('/register', { body: registration }));
  say('The agent registers itself', `agent_id ${agent.agent_id}`);
  const agentClient = createClient({ apiUrl: info.api_url, credential: agent.jwt });

  const mandateId = await askForMandate(agentClient);
  await unwrap(owner.POST('/v1/mandates/{mandateId}/sign', { params: { path: { mandateId } }, body: {} }));
  say('A person signs it', 'the agent is linked to the wallet, with that budget and no more');

  const before = await findBalance(backend);
  const payingFetch = createPayingFetch({
    client: agentClient,
    mandateId,
    agentId: agent.agent_id,
    onSigned: ({ terms, payment }) => tellPayment(terms, payment),
  });
  const url = `${info.demo_url}?place=lagos&date=2026-06-21`;
  const response = await payingFetch(url);
  const text = await response.text();
  const settlement = readSettlement(response.headers);
  say(
    `The API answers ${response.status}`,
    text.trim(),
    `settled in transaction ${settlement?.transaction ?? 'none'}`,
  );
  if (response.status !== 200 || settlement?.success !== true) throw new Error('the call was not paid for');

  const after = await findBalance(backend);
  say('The wallet has paid', `before ${dollars(before)}`, `after  ${dollars(after)}`);
  await tellEvidence(backend, mandateId);
}

async function askForMandate(agentClient: ReturnType<typeof createClient>): Promise<string> {
  const intent = {
    naturalLanguage: 'Look up sunrise and sunset for a painting trip',
    limitAmount: '50000',
    maxAmountPerTx: '20000',
    validForSeconds: 3600,
    hostAllowlist: ['localhost'],
  };
  const mandate = await unwrap(agentClient.POST('/v1/mandates/create-intent', { body: { intent } }));
  say(
    'It asks for a budget',
    `"${intent.naturalLanguage}": ${dollars(50_000n)} in all, ${dollars(20_000n)} a payment, one hour`,
    `a person may sign at ${mandate.authorizationUrl}`,
  );
  return mandate.mandateId;
}

function tellPayment(
  terms: PaymentTerms,
  payment: { id: string; decision_id: string; expires_at: string },
): void {
  if (typeof terms !== 'string') throw new Error('the demo API did not ask in x402 version 2');
  const required = decode(terms) as { accepts: { amount: string; payTo: string; network: string }[] };
  const [offer] = required.accepts;
  say(
    'The API answers 402',
    `it asks for ${dollars(BigInt(offer?.amount ?? 0))} to ${offer?.payTo} on ${offer?.network}`,
  );
  say(
    'The wallet decides, holds and signs',
    `decision ${payment.decision_id}: ALLOW`,
    `payment ${payment.id}, good until ${payment.expires_at}`,
  );
}

/** The hold is captured by a worker, within a second of the settlement. */
async function tellEvidence(backend: ReturnType<typeof createClient>, mandateId: string): Promise<void> {
  for (let tries = 0; tries < 50; tries += 1) {
    const { data } = await unwrap(backend.GET('/audit-logs', { params: { query: { limit: 20 } } }));
    if (
      data.some(
        (event) => event.action === 'outgoing_payment.settled' && event.data['mandate_id'] === mandateId,
      )
    ) {
      const events = data.slice(0, 5).toReversed();
      say(
        'What happened is on record',
        ...events.map((event) => `${event.created_at}  ${event.action}  ${event.resource}`),
      );
      const mandate = await unwrap(
        backend.GET('/v1/mandates/{mandateId}', { params: { path: { mandateId } } }),
      );
      const [spent, left] = [BigInt(mandate.spentAmount), BigInt(mandate.remainingAmount)];
      say('The budget', `spent ${dollars(spent)}, left ${dollars(left)}`);
      return;
    }
    await new Promise((wait) => setTimeout(wait, 100));
  }
  throw new Error('the payment was settled, and its hold was not captured within 5 seconds');
}

async function findBalance(backend: ReturnType<typeof createClient>): Promise<bigint> {
  const { data } = await unwrap(backend.GET('/v1/wallets'));
  return BigInt(data[0]?.balances.USDC ?? 0);
}

function decode(header: string): unknown {
  return JSON.parse(Buffer.from(header, 'base64').toString() || '{}');
}

function dollars(atomic: bigint): string {
  return `$${atomic / 1_000_000n}.${(atomic % 1_000_000n)
    .toString()
    .padStart(6, '0')
    .replace(/0{0,4}$/, '')}`;
}

try {
  await run();
} catch (error) {
  const refused = error instanceof TypeError && error.message === 'fetch failed';
  const reason = refused ? 'the instance does not answer: is "npm start" running?' : (error as Error).message;
  console.error(`\ndemo: ${reason}`);
  if (error instanceof CredenceError && error.problem.next) console.error(error.problem.next);
  process.exitCode = 1;
}
