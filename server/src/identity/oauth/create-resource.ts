import { write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { type EnvironmentId, newId, type OrganisationId } from '../../kernel/ids.ts';
import { claimIdentifier, insertResource, type Resource } from './resources.sql.ts';

/** Registers an API that tokens may be for. Throws `invalid_request` for what is no identifier, `conflict` where it is there, or another organisation's. */
export async function createResource(
  context: WriteContext,
  owner: { environmentId: EnvironmentId; organisationId: OrganisationId },
  given: { identifier: string; name: string; scopes: string[]; issuer: string },
): Promise<Resource> {
  const { name, issuer } = given;
  const identifier = checkIdentifier(given.identifier, issuer);
  const { environmentId, organisationId } = owner;
  const id = newId('resource');
  return write(context, async (sql, now) => {
    if (!(await claimIdentifier(sql, { identifier, organisationId })))
      throw new AppError('conflict', `${identifier} is a resource of another organisation on this instance`);
    const resource = {
      environmentId,
      id,
      identifier,
      name,
      scopes: [...new Set(given.scopes)],
      createdAt: now,
    };
    const inserted = await insertResource(sql, resource);
    if (!inserted) throw new AppError('conflict', `${identifier} is a resource of this environment already`);
    return { result: resource, audit: { action: 'resource.created', resource: id, data: { identifier } } };
  });
}

/** RFC 8707 section 2: an absolute URI without a fragment. It is kept as it is, as tokens are compared by every character. */
function checkIdentifier(text: string, issuer: string): string {
  const url = /^[\x21-\x7e]+$/.test(text) && !text.includes('#') ? URL.parse(text) : null;
  const message = 'must be an absolute URI without fragment or credentials, such as https://api.example.com';
  if (!url || url.username !== '' || url.password !== '')
    throw new AppError('invalid_request', `identifier ${message}`, {
      errors: [{ field: 'identifier', message }],
    });
  if (url.origin === issuer)
    throw new AppError('invalid_request', 'identifier is of this server, whose tokens need no registration');
  return text;
}
