import createOpenApiClient, { type Client } from 'openapi-fetch';
import type { components, paths } from './generated/api.ts';

/** The API, typed from its OpenAPI document: `client.GET('/v1/servers')`, `client.POST('/register', { body })`. */
export type CredenceClient = Client<paths>;

/** What the API answers when it doesn't do what it was asked (RFC 9457), with our `code` and the next step. */
export type Problem = components['schemas']['Problem'];

/** Where the API is, and as whom to call it. */
export interface ClientOptions {
  /** Such as `http://localhost:8080`. */
  apiUrl: string;
  /** An agent's jwt or an API key. Absent: none is sent, which development mode takes for its owner. */
  credential?: string;
  fetch?: typeof fetch;
}

/** A client of the API. Nothing is sent until it is called, and a refusal is a value: `{ error }`. */
export function createClient(options: ClientOptions): CredenceClient {
  return createOpenApiClient<paths>({
    baseUrl: options.apiUrl,
    ...(options.credential === undefined
      ? {}
      : { headers: { authorization: `Bearer ${options.credential}` } }),
    ...(options.fetch ? { fetch: options.fetch } : {}),
  });
}

/** A request that the API refused. `problem` says why, and often what to do next. */
export class CredenceError extends Error {
  override name = 'CredenceError';
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.code}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** The data of a call, for whoever would rather catch than look: throws `CredenceError` where it was refused. */
export async function unwrap<Data>(call: Promise<{ data?: Data; error?: unknown }>): Promise<Data> {
  const { data, error } = await call;
  if (data !== undefined) return data;
  throw new CredenceError(error as Problem);
}
