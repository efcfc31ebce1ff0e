/* One starter among several, as a process of its own: `node migrate.fixture.ts <database url> <folder of migrations>`. */
import { openDatabase } from './database.ts';
import { migrate } from './migrate.ts';

const [, , url = '', folder = ''] = process.argv;
const db = openDatabase(url, {
  poolSize: 1,
  onError(error) {
    throw error;
  },
});
const { applied } = await migrate(db, new URL(folder), new Date());
await db.close();
process.stdout.write(`${applied}\n`);
