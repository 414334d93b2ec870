"""Texts with what a detector should find in them: (text, [(label, value), ...]). All values are made up.

Credentials are put together from pieces, so that nobody's scanner takes this file for a leak.
"""

from typing import Final

GITHUB: Final = "ghp" + "_" + "a8Kd0Zq3LmX7pR2tVwY5nB1cE4fG6hJ9sUoI"
OPENAI: Final = "sk" + "-proj-" + "Ab3dEf6hIj9kLmN0pQr2tUv5wXyZ1a4CdEfGhIj7kL"
ANTHROPIC: Final = "sk" + "-ant-api03-" + "Zx9Cv8Bn7Mm6Kk5Jj4Hh3Gg2Ff1Dd0SsAaPpOoIiUuYyTt"
AWS: Final = "AKIA" + "Q3EGZ7XN5PLW2RTB"
SLACK: Final = "xoxb" + "-2048109283-8829103847261-aBcD3fGh1jKlMn0pQrStUvWx"
STRIPE: Final = "sk" + "_live_" + "4eC39HqLyjWDarjtT1zdp7dcAb"
GOOGLE: Final = "AIza" + "SyD4k9Lm2Qx7Rt5Vb8Nc1Zf6Hj3Kp0Ws-YTe"
JWT: Final = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM: Final = (
    "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nAgEAAoIBAQC7\n-----END PRIVATE KEY-----"
)
PASSWORD: Final = "t7#Kq9!vXz2Lp"

Row = tuple[str, tuple[tuple[str, str], ...]]
LABELLED: Final[tuple[Row, ...]] = (
    ("Write to jane.doe+news@example.co.uk today.", (("EMAIL", "jane.doe+news@example.co.uk"),)),
    (
        "Both bob@example.org and al@sub.example.com replied",
        (("EMAIL", "bob@example.org"), ("EMAIL", "al@sub.example.com")),
    ),
    ("<mailto:x_y@example.io>.", (("EMAIL", "x_y@example.io"),)),
    ("Call +49 30 901820 before noon.", (("PHONE", "+49 30 901820"),)),
    ("My number is (415) 555-2671.", (("PHONE", "(415) 555-2671"),)),
    ("tel: 415-555-2671 or +44 20 7946 0958", (("PHONE", "415-555-2671"), ("PHONE", "+44 20 7946 0958"))),
    ("Ring me on +1-202-555-0143, please", (("PHONE", "+1-202-555-0143"),)),
    ("Pay to DE89 3704 0044 0532 0130 00 by Monday", (("IBAN", "DE89 3704 0044 0532 0130 00"),)),
    ("IBAN GB82WEST12345698765432.", (("IBAN", "GB82WEST12345698765432"),)),
    ("FR1420041010050500013M02606", (("IBAN", "FR1420041010050500013M02606"),)),
    ("The card is 4111 1111 1111 1111, exp 12/29", (("CREDIT_CARD", "4111 1111 1111 1111"),)),
    ("5500-0055-5555-5559 was charged", (("CREDIT_CARD", "5500-0055-5555-5559"),)),
    ("amex 371449635398431", (("CREDIT_CARD", "371449635398431"),)),
    ("SSN 536-90-4399 on file", (("SSN", "536-90-4399"),)),
    ("from 192.168.10.24 to 10.0.0.1", (("IP_ADDRESS", "192.168.10.24"), ("IP_ADDRESS", "10.0.0.1"))),
    ("host 2001:db8:85a3::8a2e:370:7334 is up", (("IP_ADDRESS", "2001:db8:85a3::8a2e:370:7334"),)),
    (f"export GITHUB_TOKEN={GITHUB}", (("SECRET", GITHUB),)),
    (f"client = OpenAI(api_key='{OPENAI}')", (("SECRET", OPENAI),)),
    (f"x-api-key: {ANTHROPIC}", (("SECRET", ANTHROPIC),)),
    (f"aws_access_key_id = {AWS}", (("SECRET", AWS),)),
    (f"the bot uses {SLACK} now", (("SECRET", SLACK),)),
    (f"STRIPE={STRIPE}", (("SECRET", STRIPE),)),
    (f"maps key {GOOGLE}!", (("SECRET", GOOGLE),)),
    (f"Authorization: Bearer {JWT}", (("SECRET", JWT),)),
    (f"here:\n{PEM}\nthanks", (("SECRET", PEM),)),
    (f'password = "{PASSWORD}"', (("SECRET", PASSWORD),)),
    ("postgres://app:hunter2secret@db:5432/x", (("SECRET", "hunter2secret"),)),
    # nothing in these
    ("Version 1.2.3.4567 came out on 2026-11-22 at 10:26:00.", ()),
    ("The order number is 4111 1111 1111 1112.", ()),
    ("DE89 3704 0044 0532 0130 01 is a wrong account", ()),
    ("commit 8f0bdbb2c1d4e5f60718293a4b5c6d7e8f901234 fixes it", ()),
    ("id 550e8400-e29b-41d4-a716-446655440000", ()),
    ("We need 1000000 rows, 250 columns and 3.14159265358979 digits", ()),
    ("def password_hash(password): return argon2(password)", ()),
    ("std::vector<int> a; a::b::c; 12:30:45", ()),
    ("The ratio is 12-34-56 and the score 10-2.", ()),
    ("token: the smallest piece of text that a model reads", ()),
    ("@decorator on foo@bar and user@localhost", ()),
    ("/usr/lib/python3.11/site-packages/some_package/internal_module_name.py", ()),
    ("The ISBN is 978-3-16-148410-0.", ()),
    ("Set api_key = os.environ['OPENAI_API_KEY'] first", ()),
    ("ThisIsAVeryLongCamelCaseIdentifierInJavaCode and aBCDeFGHiJKLmNOP", ()),
    ("1/2/2026, 1234567890 seconds, 0x7fffffffffff", ()),
)
