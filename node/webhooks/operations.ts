/** The methods of `/v1/webhooks` for the OpenAPI document. */
import type { ErrorCode } from '../errors.ts';
import { didQuery } from '../http/common-schema.ts';
import type { Operation } from '../relay/api/operations.ts';
import {
  createdAnswer,
  deliveriesAnswer,
  deliveriesQuery,
  idParam,
  removedAnswer,
  replayAnswer,
  replayRequest,
  rotatedAnswer,
  testAnswer,
  webhookAnswer,
  webhookRequest,
  webhooksAnswer,
} from './api-schema.ts';

const any: readonly ErrorCode[] = [
  ...(['AUTH_REQUIRED', 'INVALID_DID', 'AUTH_FAILED', 'DID_MISMATCH', 'INVALID_REQUEST'] as const),
  ...(['AUTH_THROTTLED', 'AUTH_BUSY', 'INTERNAL_ERROR'] as const),
];
const one: readonly ErrorCode[] = [...any, 'NOT_FOUND'];
const acting: readonly ErrorCode[] = ['MEMBER_SUSPENDED', 'MEMBER_HELD'];

const example = { url: 'https://reef.example/mail-events', types: ['message.bounced', 'message.complained'] };

export const webhookOperations: readonly Operation[] = [
  {
    ...{
      id: 'listWebhooks',
      method: 'get',
      path: '/v1/webhooks',
      summary: 'Where you are told of your mail',
    },
    query: didQuery,
    answer: webhooksAnswer,
    answers: 'All of them, oldest first',
    errors: any,
  },
  {
    ...{ id: 'createWebhook', method: 'post', path: '/v1/webhooks', summary: 'Be told of your mail' },
    body: webhookRequest,
    examples: { 'bounces and complaints': example },
    answer: createdAnswer,
    answers: 'Requests follow standardwebhooks.com, signed with the secret',
    errors: [...any, ...acting, 'WEBHOOK_REFUSED'],
  },
  {
    ...{ id: 'getWebhook', method: 'get', path: '/v1/webhooks/{id}', summary: 'One webhook' },
    params: idParam,
    query: didQuery,
    answer: webhookAnswer,
    answers: 'How it is set, and whether it answers',
    errors: one,
  },
  {
    ...{ id: 'replaceWebhook', method: 'put', path: '/v1/webhooks/{id}', summary: 'Set a webhook anew' },
    params: idParam,
    body: webhookRequest,
    examples: { 'bounces and complaints': example },
    answer: webhookAnswer,
    answers: 'Its secret and its deliveries stay',
    errors: [...one, ...acting, 'WEBHOOK_REFUSED'],
  },
  {
    ...{ id: 'removeWebhook', method: 'delete', path: '/v1/webhooks/{id}', summary: 'Remove a webhook' },
    params: idParam,
    query: didQuery,
    answer: removedAnswer,
    answers: 'It and its deliveries are gone',
    errors: one,
  },
  {
    ...{ id: 'rotateWebhookSecret', method: 'post', path: '/v1/webhooks/{id}/rotate' },
    summary: 'A new secret',
    params: idParam,
    answer: rotatedAnswer,
    answers: 'For a day both secrets sign',
    errors: [...one, ...acting],
  },
  {
    ...{ id: 'listWebhookDeliveries', method: 'get', path: '/v1/webhooks/{id}/deliveries' },
    summary: 'What was sent there, and what it answered',
    params: idParam,
    query: deliveriesQuery,
    answer: deliveriesAnswer,
    answers: 'What arrived is kept 3 days, all else 30',
    errors: one,
  },
  {
    ...{ id: 'replayWebhook', method: 'post', path: '/v1/webhooks/{id}/replay' },
    summary: 'Send again',
    params: idParam,
    body: replayRequest,
    examples: { 'one message': { messageId: '01hs4k8d4vs8m2ab' } },
    answer: replayAnswer,
    answers: 'Queued, with the `webhook-id` of the first time',
    errors: [...one, ...acting, 'WEBHOOK_REFUSED'],
  },
  {
    ...{ id: 'testWebhook', method: 'post', path: '/v1/webhooks/{id}/test', summary: 'One request at once' },
    params: idParam,
    answer: testAnswer,
    answers: 'What it answered to an event `webhook.test`',
    errors: [...one, ...acting, 'RATE_LIMITED'],
  },
];
