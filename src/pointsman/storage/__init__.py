"""What must survive a restart: one database, its tables and migrations, and one repository per noun.

Repositories take a `Database`, are named by the question they answer, and give frozen structs.
"""
