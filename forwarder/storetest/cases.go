package storetest

import "slices"

// cases are all, in the order of the table.
var cases = slices.Concat(deliveryCases, contentCases, refusalCases, outageCases, stopCases, secretCases, retentionCases, readCases)
