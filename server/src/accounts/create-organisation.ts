import { write, type WriteContext } from '../db/index.ts';
import { newId } from '../kernel/ids.ts';
import { type Environment, insertEnvironment, insertOrganisation } from './accounts.sql.ts';

/** Creates an organisation with its sandbox. Production is added when somebody asks for it. */
export async function createOrganisation(context: WriteContext, name: string): Promise<Environment> {
  return write(context, async (sql, now) => {
    const environment: Environment = {
      id: newId('environment'),
      organisationId: newId('organisation'),
      kind: 'sandbox',
    };
    await insertOrganisation(sql, { id: environment.organisationId, name, now });
    await insertEnvironment(sql, { ...environment, now });
    return {
      result: environment,
      audit: {
        action: 'organisation.created',
        resource: environment.organisationId,
        scope: environment.id,
        data: { name },
      },
    };
  });
}
