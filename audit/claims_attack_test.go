package audit

import (
	"testing"
	"time"
)

func TestAttackAnUnverifiedEmailOfANestedProfileIsBelieved(t *testing.T) {
	a, err := NewProfile(nil, map[string]string{"user_id": "data.id", "email": "data.email"})
	if err != nil {
		t.Fatal(err)
	}
	id, why := a.Identity([]byte(`{"data":{"id":"u-1","email":"ceo@example.com","email_verified":false}}`), time.Now().Add(time.Minute))
	if why != "" || id.actor.Email != "" {
		t.Errorf("email %q is recorded as a fact although the service says beside it that it was not checked (%q)", id.actor.Email, why)
	}
}

func TestAttackAUserNamedLikeTheClientIsNobody(t *testing.T) {
	a, _ := NewIntrospection(nil, nil)
	id, why := a.Identity([]byte(`{"active":true,"sub":"dashboard","username":"dashboard","client_id":"dashboard","email":"eve@example.com"}`), time.Now().Add(time.Minute))
	if why != "" {
		t.Fatal(why)
	}
	if id.actor.UserID == "" {
		t.Errorf("the user is not in the entry: kind %q, user %q, email %q, app %q", id.actor.Kind, id.actor.UserID, id.actor.Email, id.actor.OAuthAppID)
	}
}

// 2^53 stands for 2^53+1 too: another user's number.
func TestAttackNumbers(t *testing.T) {
	a, _ := NewProfile(nil, nil)
	id, _ := a.Identity([]byte(`{"id":9007199254740993}`), time.Now().Add(time.Minute))
	if id != nil && id.actor.UserID != "9007199254740993" {
		t.Errorf("user 9007199254740993 is recorded as %s", id.actor.UserID)
	}
}
