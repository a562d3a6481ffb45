// Package catalogstest has descriptions of a small API, for tests of whatever reads them.
package catalogstest

// API is an OpenAPI description. Further paths may be put behind it.
const API = `
openapi: 3.1.0
servers: [{url: "https://api.example.com/v1"}]
paths:
  /orders/{order_id}:
    get: {operationId: getOrder, summary: Get an order}
  /orders/{order_id}/refund:
    post: {operationId: refundOrder}
`

// File is a list of operations of the same API, as of a site's own catalog.
const File = `
operations:
  - method: GET
    path: /v1/orders/{id}
    changing: true
  - method: POST
    path: /v1/orders/{id}/refund
    name: Refund an order
    target: {type: refund, parent: id}
`
