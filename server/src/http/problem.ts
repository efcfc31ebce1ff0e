import { AppError, type ErrorCode, errorCodes } from '../kernel/errors.ts';

/** A problem document (RFC 9457) with our members. */
export interface Problem {
  status: number;
  contentType: string;
  headers: Record<string, string>;
  body: Record<string, unknown>;
}

/** An error in the form of the place where it is answered. */
export function renderError(error: AppError, url: string, requestId: string): Problem {
  return url.startsWith('/oauth/') ? renderOAuthError(error) : renderProblem(error, requestId);
}

/** RFC 9457 problem details, with our stable `code`, the request's id and, where there is one, the next step. */
export function renderProblem(error: AppError, requestId: string): Problem {
  const { status, title } = errorCodes[error.code];
  const { errors, next, extra } = error.details;
  return {
    status,
    contentType: 'application/problem+json',
    headers: headersOf(error),
    body: {
      ...extra,
      type: `urn:credence:error:${error.code}`,
      title,
      status,
      code: error.code,
      detail: error.message,
      request_id: requestId,
      ...(errors ? { errors } : {}),
      ...(next ? { next } : {}),
    },
  };
}

/** The OAuth error body (RFC 6749 section 5.2), for `/oauth/*`. */
function renderOAuthError(error: AppError): Problem {
  const { status } = errorCodes[error.code];
  return {
    status,
    contentType: 'application/json',
    headers: headersOf(error),
    body: { error: oauthCode(error), error_description: error.message },
  };
}

/** What anything unknown becomes: its detail stays in the log, under the request's id. */
export function internalError(cause: unknown): AppError {
  return new AppError(
    'internal_error',
    'The request failed here. Its id finds the reason in the server log.',
    { cause },
  );
}

/** Codes that are OAuth's own (RFC 6749 section 5.2, RFC 8707 section 2, RFC 9449 section 5) go out as they are. */
const oauthCodes: ReadonlySet<ErrorCode> = new Set([
  'invalid_client',
  'invalid_dpop_proof',
  'invalid_grant',
  'invalid_scope',
  'invalid_target',
  'unauthorized_client',
  'unsupported_grant_type',
  'unsupported_response_type',
  'use_dpop_nonce',
]);

function oauthCode(error: AppError): string {
  if (oauthCodes.has(error.code)) return error.code;
  if (error.code === 'unauthorized') return 'invalid_client';
  if (error.status === 403) return 'access_denied';
  if (error.status >= 500) return 'server_error';
  return 'invalid_request';
}

/** RFC 9110: a 401 says how to authenticate (section 11.6.1), and who has to wait hears how long (10.2.3). */
function headersOf(error: AppError): Record<string, string> {
  const { headers, retryAfterSeconds } = error.details;
  const challenge = error.status === 401 ? { 'www-authenticate': 'Bearer realm="credence"' } : {};
  return {
    ...(headers ?? challenge),
    ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
  };
}
