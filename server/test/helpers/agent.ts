import type { Instance } from './instance.ts';
import { callApi } from './seller.ts';

export interface Agent {
  agent_id: string;
  token: string;
  jwt: string;
}

export interface Intent {
  naturalLanguage: string;
  limitAmount: string;
  validForSeconds: number;
  maxAmountPerTx?: string;
  hostAllowlist?: string[];
}

export async function registerAgent(instance: Instance): Promise<Agent> {
  const body = { agent_name: 'Test buyer', client_info: 'end-to-end tests' };
  const answer = await callApi(instance, '/register', { body });
  if (answer.status !== 201) throw new Error(`not registered: ${answer.text}`);
  return answer.json() as Agent;
}

/** Asks for a mandate, as the agent. */
export async function askForMandate(
  instance: Instance,
  agent: Agent,
  intent: Partial<Intent> = {},
): Promise<{ mandateId: string; authorizationUrl: string }> {
  const whole = {
    naturalLanguage: 'Buy some answers',
    limitAmount: '1000000',
    validForSeconds: 3600,
    ...intent,
  };
  const answer = await callApi(instance, '/v1/mandates/create-intent', {
    body: { intent: whole },
    credential: agent.jwt,
  });
  if (answer.status !== 201) throw new Error(`no mandate: ${answer.text}`);
  return answer.json() as { mandateId: string; authorizationUrl: string };
}

/** Asks for a mandate and has a person sign it: the development principal. */
export async function getMandate(
  instance: Instance,
  agent: Agent,
  intent: Partial<Intent> = {},
): Promise<string> {
  const { mandateId } = await askForMandate(instance, agent, intent);
  const signed = await callApi(instance, `/v1/mandates/${mandateId}/sign`, { body: {} });
  if (signed.status !== 200) throw new Error(`not signed: ${signed.text}`);
  return mandateId;
}
