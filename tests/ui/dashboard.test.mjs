// All browser tests, in this order, against one router: `LLM_ROUTER=… node --test dashboard.test.mjs`.

import "./sign_in.mjs";
import "./toggle.mjs";
import "./money.mjs";
import "./routing.mjs";
import "./keys.mjs";
import "./shape.mjs";
import "./outage.mjs";
