import { expect, it } from 'vitest';
import { openTestDatabase, testContext } from '../../../test/helpers/database.ts';
import { createOrganisation } from '../../accounts/index.ts';
import { codeOf } from '../agents/agents.fixture.ts';
import { createResource } from './create-resource.ts';
import { deleteResource } from './delete-resource.ts';

const { db } = await openTestDatabase();
const context = testContext(db);
const home = await createOrganisation(context, 'Home');
const stranger = await createOrganisation(context, 'Stranger');
const register = (owner: typeof home, identifier: string) =>
  createResource(
    context,
    { environmentId: owner.id, organisationId: owner.organisationId },
    {
      identifier,
      name: 'An API',
      scopes: [],
      issuer: 'https://id.example',
    },
  );

it("is refused where the API is another organisation's, whose agents' tokens it would take for its own", async () => {
  const identifier = 'https://api.example';
  const { id } = await register(home, identifier);
  expect(await codeOf(register(stranger, identifier))).toBe('conflict');
  await deleteResource(context, home.id, id);
  expect(await codeOf(register(stranger, identifier))).toBe('done');
});

it('by two organisations at once is one of them, whichever', async () => {
  const outcomes = await Promise.all(
    [home, stranger].map((owner) => codeOf(register(owner, 'https://raced.example'))),
  );
  expect(outcomes.toSorted()).toEqual(['conflict', 'done']);
});
