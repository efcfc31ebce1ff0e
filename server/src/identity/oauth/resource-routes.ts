import type { Static } from 'typebox';
import { defineRoute, type Route } from '../../http/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import { createResource } from './create-resource.ts';
import { deleteResource } from './delete-resource.ts';
import { findResource, listResources, type Resource } from './resources.sql.ts';
import { NoContent } from '../agents/schemas.ts';
import { CreateResourceBody, PageQuery, ResourceList, ResourceParams, ResourceView } from './schemas.ts';

const management = { auth: ['api_key', 'person'], limit: 'write' } as const;
const reading = {
  ...management,
  method: 'GET',
  scopes: ['resources:read'],
  limit: 'read',
  status: 200,
} as const;

/** The registry of APIs that tokens may be for (RFC 8707). */
export function resourceRoutes(issuer: string): Route[] {
  return [
    defineRoute({
      ...management,
      id: 'resource.create',
      summary: 'Register an API that tokens may be for',
      method: 'POST',
      path: '/v1/resources',
      scopes: ['resources:write'],
      status: 201,
      schema: { body: CreateResourceBody, response: ResourceView },
      errors: ['conflict'],
      handler: async ({ principal, body, context }) => {
        const { identifier, name, scopes = [] } = body;
        const given = { identifier, name, scopes, issuer };
        return presentResource(await createResource(context, principal, given));
      },
    }),

    defineRoute({
      ...reading,
      id: 'resource.list',
      summary: "The environment's resources, newest first",
      path: '/v1/resources',
      schema: { query: PageQuery, response: ResourceList },
      errors: [],
      handler: async ({ principal, query, context }) => {
        const limit = query.limit ?? limits.pageSizeDefault;
        const { environmentId } = principal;
        const before = query.cursor ?? null;
        const rows = await listResources(context.db, { environmentId, before, limit: limit + 1 });
        const page = rows.slice(0, limit);
        const has_more = rows.length > limit;
        return {
          data: page.map(presentResource),
          has_more,
          next_cursor: has_more ? (page.at(-1)?.id ?? null) : null,
        };
      },
    }),

    defineRoute({
      ...reading,
      id: 'resource.get',
      summary: 'A resource',
      path: '/v1/resources/:resourceId',
      schema: { params: ResourceParams, response: ResourceView },
      errors: [],
      handler: async ({ principal, params, context }) => {
        const resource = await findResource(context.db, principal.environmentId, params.resourceId);
        if (!resource)
          throw new AppError('not_found', `There is no resource ${params.resourceId} in this environment`);
        return presentResource(resource);
      },
    }),

    defineRoute({
      ...management,
      id: 'resource.delete',
      summary: 'Give no more tokens for an API',
      method: 'DELETE',
      path: '/v1/resources/:resourceId',
      scopes: ['resources:write'],
      status: 204,
      schema: { params: ResourceParams, response: NoContent },
      errors: [],
      handler: async ({ principal, params, context }) => {
        await deleteResource(context, principal.environmentId, params.resourceId);
        return null;
      },
    }),
  ];
}

function presentResource(resource: Resource): Static<typeof ResourceView> {
  return {
    id: resource.id,
    identifier: resource.identifier,
    name: resource.name,
    scopes: resource.scopes,
    created_at: resource.createdAt.toISOString(),
  };
}
