/** The methods of the document, each with the schemas and the error codes that it has. */
import type { z } from 'zod';
import type { ErrorCode } from '../../errors.ts';
import { didQuery } from '../../http/common-schema.ts';
import { deliverabilityAnswer } from './deliverability.ts';
import { contactAnswer, contactRequest, forwardToAnswer, forwardToRequest } from './forward-to.ts';
import { statusAnswer } from './member-status.ts';
import { cancelAnswer, idParam, messageAnswer, messagesAnswer, messagesQuery } from './messages.ts';
import { batchAnswer, documentedBatch, idempotencyKey, sendAnswer, sendRequest } from './send-schema.ts';
import {
  addressParam,
  removalAnswer,
  suppressionAnswer,
  suppressionRequest,
  suppressionsAnswer,
  suppressionsQuery,
} from './suppressions.ts';

export type Operation = {
  id: string;
  method: 'get' | 'post' | 'put' | 'delete';
  /** As OpenAPI writes it: `/v1/messages/{id}`. */
  path: string;
  summary: string;
  params?: z.ZodType;
  query?: z.ZodType;
  headers?: readonly { name: string; description: string; schema: z.ZodType }[];
  body?: z.ZodType;
  examples?: Readonly<Record<string, unknown>>;
  answer: z.ZodType;
  /** What 200 means. */
  answers: string;
  errors: readonly ErrorCode[];
};

const anyRequest: readonly ErrorCode[] = [
  ...(['AUTH_REQUIRED', 'INVALID_DID', 'AUTH_FAILED', 'DID_MISMATCH', 'INVALID_REQUEST'] as const),
  ...(['AUTH_THROTTLED', 'AUTH_BUSY', 'INTERNAL_ERROR'] as const),
];
const acting: readonly ErrorCode[] = [...anyRequest, 'MEMBER_SUSPENDED', 'MEMBER_HELD', 'MESSAGE_TOO_LARGE'];
const storing: readonly ErrorCode[] = [...acting, 'IDEMPOTENCY_CONFLICT', 'QUEUE_FULL', 'STORAGE_FAILED'];
const sending: readonly ErrorCode[] = [
  ...(['DOMAIN_MISMATCH', 'INVALID_MESSAGE', 'INVALID_RECIPIENT', 'TOO_MANY_RECIPIENTS'] as const),
  ...(['RECIPIENT_SUPPRESSED', 'RATE_LIMITED', 'SIGNING_FAILED'] as const),
];

const idempotency = {
  name: 'Idempotency-Key',
  description: 'The same request with the same key gets the same answer again, for 24 hours',
  schema: idempotencyKey,
};

const loginLink = {
  from: 'Reef PDS <noreply@reef.example>',
  to: 'ana@harbor.example',
  subject: 'Your login link',
  text: 'Open https://reef.example/login/1f2e to log in.',
  category: 'login-link',
};

const report = {
  from: 'reports@reef.example',
  to: ['Ana <ana@harbor.example>', 'ben@meadow.example'],
  cc: 'team@reef.example',
  bcc: 'archive@reef.example',
  replyTo: 'help@reef.example',
  subject: 'October in figures',
  text: 'The figures are attached.',
  html: '<p>The figures are attached.</p><img src="cid:chart">',
  headers: { 'X-Report': 'october' },
  category: 'transactional',
  attachments: [
    { filename: 'figures.csv', contentType: 'text/csv', content: 'bW9udGgsc2VudApvY3QsNDIK' },
    { filename: 'chart.gif', contentType: 'image/gif', cid: 'chart', content: 'R0lGODlhAQABAAAAACw=' },
  ],
  tags: ['reports', 'october'],
};

export const operations: readonly Operation[] = [
  {
    ...{ id: 'send', method: 'post', path: '/v1/send', summary: 'Send one message' },
    headers: [idempotency],
    body: sendRequest,
    examples: { 'a login link': loginLink, 'a report with attachments': report },
    answer: sendAnswer,
    answers: 'Stored safely, for every recipient under `accepted`',
    errors: [...storing, ...sending],
  },
  {
    ...{ id: 'sendBatch', method: 'post', path: '/v1/send/batch', summary: 'Send up to 100 messages' },
    headers: [idempotency],
    body: documentedBatch,
    examples: { 'two messages': { messages: [loginLink, { ...loginLink, to: 'ben@meadow.example' }] } },
    answer: batchAnswer,
    answers: 'Each message has its own answer, or its own error of those of `/v1/send`',
    errors: [...storing, 'TOO_MANY_RECIPIENTS'],
  },
  {
    ...{ id: 'listMessages', method: 'get', path: '/v1/messages', summary: 'Find messages' },
    query: messagesQuery,
    answer: messagesAnswer,
    answers: 'A page of your messages. It may be short while there is a cursor',
    errors: anyRequest,
  },
  {
    ...{ id: 'getMessage', method: 'get', path: '/v1/messages/{id}', summary: 'What became of a message' },
    params: idParam,
    query: didQuery,
    answer: messageAnswer,
    answers: 'The timeline of each recipient',
    errors: [...anyRequest, 'NOT_FOUND'],
  },
  {
    ...{ id: 'cancelMessage', method: 'delete', path: '/v1/messages/{id}' },
    summary: 'Take back a scheduled message',
    params: idParam,
    query: didQuery,
    answer: cancelAnswer,
    answers: 'It is not sent',
    errors: [...anyRequest, 'NOT_FOUND', 'NOT_CANCELLABLE'],
  },
  {
    ...{ id: 'listSuppressions', method: 'get', path: '/v1/suppressions' },
    summary: 'Addresses that your mail does not reach, and why',
    query: suppressionsQuery,
    answer: suppressionsAnswer,
    answers: 'A page of your list',
    errors: anyRequest,
  },
  {
    ...{ id: 'addSuppression', method: 'post', path: '/v1/suppressions' },
    summary: 'Put an address on your list',
    body: suppressionRequest,
    examples: { 'an address': { address: 'ana@harbor.example', note: 'asked by telephone' } },
    answer: suppressionAnswer,
    answers: 'None of your mail reaches it until you remove the entry',
    errors: acting,
  },
  {
    ...{ id: 'removeSuppression', method: 'delete', path: '/v1/suppressions/{address}' },
    summary: 'Take an address off your list',
    params: addressParam,
    query: didQuery,
    answer: removalAnswer,
    answers: 'What came from a bounce or from you is gone; `remaining` says what stays',
    errors: [...anyRequest, 'NOT_FOUND', 'NOT_REMOVABLE'],
  },
  {
    ...{ id: 'memberStatus', method: 'get', path: '/member/status' },
    summary: 'How you stand, what you sent, what you may still send',
    query: didQuery,
    answer: statusAnswer,
    answers: 'Also for a suspended member: it says why',
    errors: anyRequest,
  },
  {
    ...{ id: 'memberDeliverability', method: 'get', path: '/member/deliverability' },
    summary: '14 days of sends, bounces and complaints',
    query: didQuery,
    answer: deliverabilityAnswer,
    answers: 'In all, by domain, and by mailbox provider',
    errors: anyRequest,
  },
  {
    ...{ id: 'setForwardTo', method: 'put', path: '/member/forward-to' },
    summary: 'Where bounces of a domain go',
    body: forwardToRequest,
    examples: { 'an address': { domain: 'reef.example', forward_to: 'ana@harbor.example' } },
    answer: forwardToAnswer,
    answers: 'A link was mailed to the address, unless it was confirmed before',
    errors: [...acting, 'DOMAIN_MISMATCH', 'CONFIRMATION_LIMIT', 'STORAGE_FAILED'],
  },
  {
    ...{ id: 'setContact', method: 'put', path: '/member/contact', summary: 'Where notices to you go' },
    body: contactRequest,
    examples: { 'an address': { contact: 'ana@harbor.example' } },
    answer: contactAnswer,
    answers: 'A link was mailed to the address, unless it was confirmed before',
    errors: [...acting, 'CONFIRMATION_LIMIT', 'STORAGE_FAILED'],
  },
];
