package audit

import (
	"cmp"
	"strings"
)

// The activities of the class.
const (
	ocsfActivityUnknown = 0
	ocsfCreate          = 1
	ocsfRead            = 2
	ocsfUpdate          = 3
	ocsfDelete          = 4
	ocsfOther           = 99 // also the other status
)

var ocsfActivities = map[int]string{
	ocsfActivityUnknown: "Unknown", ocsfCreate: "Create", ocsfRead: "Read", ocsfUpdate: "Update", ocsfDelete: "Delete", ocsfOther: "Other",
}

// ocsfVerbs are the words that an operation's id begins with, where they say
// which activity it is.
var ocsfVerbs = map[string]int{
	"add": ocsfCreate, "create": ocsfCreate, "generate": ocsfCreate, "insert": ocsfCreate, "invite": ocsfCreate, "register": ocsfCreate,
	"describe": ocsfRead, "download": ocsfRead, "fetch": ocsfRead, "find": ocsfRead, "get": ocsfRead, "list": ocsfRead, "read": ocsfRead,
	"retrieve": ocsfRead, "search": ocsfRead, "show": ocsfRead,
	"edit": ocsfUpdate, "modify": ocsfUpdate, "patch": ocsfUpdate, "rename": ocsfUpdate, "replace": ocsfUpdate, "set": ocsfUpdate,
	"update": ocsfUpdate, "upsert": ocsfUpdate,
	"delete": ocsfDelete, "destroy": ocsfDelete, "drop": ocsfDelete, "remove": ocsfDelete, "revoke": ocsfDelete,
}

// ocsfActivityOf is the activity, with its caption, or for another one what the
// entry calls it. The verb of the operation's id says more than the method:
// many an API reads by POST. A POST without a telling verb creates if it names
// no thing that exists; pausing a project is another activity.
func ocsfActivityOf(e *Entry) (id int, name string) {
	id = ocsfOther
	switch verb := ocsfVerbs[ocsfVerb(e.Action.Code)]; {
	case e.IsEvent():
	case verb != 0:
		id = verb
	default:
		switch e.Action.Method {
		case "":
			id = ocsfActivityUnknown
		case "GET", "HEAD":
			id = ocsfRead
		case "PUT", "PATCH":
			id = ocsfUpdate
		case "DELETE":
			id = ocsfDelete
		case "POST":
			if e.Action.Code == "" && (e.Target == nil || e.Target.ID == "") {
				id = ocsfCreate
			}
		}
	}
	if id == ocsfOther {
		return id, cmp.Or(e.Action.Name, e.Action.Code, e.Action.Method, ocsfActivities[id])
	}
	return id, ocsfActivities[id]
}

// ocsfVerb is the first word of an operation's id, in lower case, behind a
// controller, a version and "bulk": create for v1-bulk-create-secrets. Longer
// words than a verb are none.
func ocsfVerb(code string) string {
	if controller, method, ok := strings.Cut(code, "_"); ok && strings.HasSuffix(controller, "Controller") {
		code = method
	}
	for {
		n := 0
		for n < len(code) && (n == 0 || code[n] < 'A' || code[n] > 'Z') && ocsfOnly(code[n:n+1], "") {
			n++
		}
		if n == 0 || n > 16 {
			return ""
		}
		word := strings.ToLower(code[:n])
		if !isVersion(word) && word != "bulk" {
			return word
		}
		code = strings.TrimLeft(code[n:], "-_. ")
	}
}

var ocsfSeverities = map[int]string{1: "Informational", 2: "Low", 3: "Medium", 4: "High"}

// ocsfSeverityOf is 1 for what is in order, a call that failed included; 2 for
// what someone may want to look at; 3 where the record was in danger, and 4
// where calls are missing from it.
func ocsfSeverityOf(e *Entry) int {
	if e.IsEvent() {
		switch e.Action.Code {
		case EventGap:
			return 4
		case EventPass, EventUncleanStart:
			return 3
		case EventConfigChanged:
			return 2
		}
		return 1
	}
	switch e.Outcome {
	case OutcomeDenied, OutcomeUnknown:
		return 2
	case OutcomeRefused:
		return 3
	default:
		return 1
	}
}

// ocsfStatusOf is the status, with its caption, or for another one the outcome
// itself.
func ocsfStatusOf(e *Entry) (id int, name string) {
	switch e.Outcome {
	case OutcomeSuccess:
		return 1, "Success"
	case OutcomeFailure, OutcomeDenied, OutcomeRefused:
		return 2, "Failure"
	case OutcomeUnknown, "":
		return 0, "Unknown"
	default:
		return ocsfOther, string(e.Outcome)
	}
}

// ocsfDetailOf says what the status does not.
func ocsfDetailOf(e *Entry) string {
	switch {
	case e.Outcome == OutcomeDenied:
		return "The API did not let the caller do this."
	case e.Outcome == OutcomePending:
		return "The call was still open when this was recorded."
	case e.Outcome == OutcomeRefused:
		return "The call was not let through to the API, because its record could not be made durable."
	case e.Outcome == OutcomeUnknown:
		return "The call may have had its effect: its end is not known."
	case e.ClientGone:
		return "The client left before its answer was complete."
	default:
		return ""
	}
}
