package audit

import "testing"

func TestActionNameReadsAnyStyleOfID(t *testing.T) {
	for code, want := range map[string]string{
		"":                                       "",
		"v1-":                                    "V1",
		"v1-undo":                                "Undo",
		"v1-get-project-api-keys":                "Get project api keys",
		"v1-Delete hostname config":              "Delete hostname config",
		"AuthInviteController_sendInvite":        "Send invite",
		"MfaController_getMFAState":              "Get MFA state",
		"MembersController_UpdateMemberRole":     "Update member role",
		"MembersController_assignMemberRoleV2":   "Assign member role v2",
		"OrgDocumentsController_getSoc2Type2Url": "Get soc2 type2 url",
		"GitHubConnectionsController_listOrganizationGitHubConnections": "List organization GitHub connections",
		"OAuthAppsController_listOAuthApps":                             "List OAuth apps",
		"GoTrueConfigController_getGoTrueConfig":                        "Get GoTrue config",
		"PostgrestConfigController_updatePostgRESTConfig":               "Update PostgREST config",
		"GitHub":                   "GitHub",
		"v1-exchange-oauth-token":  "Exchange oauth token",
		"list_pets":                "List pets",
		"pets.list":                "Pets list",
		"--":                       "",
		"élan-vital":               "Élan vital",
		"AccessTokenController_":   "",
		"AccessTokenController_v2": "V2",
	} {
		if got := ActionName(code); got != want {
			t.Errorf("ActionName(%q) = %q, want %q", code, got, want)
		}
	}
}
