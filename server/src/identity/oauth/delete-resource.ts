import { write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import { deleteResource as deleteRow } from './resources.sql.ts';

/** From now on no token is given for it; those that there are live on, an hour at most. Throws `not_found`. */
export async function deleteResource(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: string,
): Promise<void> {
  await write(context, async (sql) => {
    if (!(await deleteRow(sql, environmentId, id)))
      throw new AppError('not_found', `There is no resource ${id} in this environment`);
    return { result: undefined, audit: { action: 'resource.deleted', resource: id } };
  });
}
