"""What is done about jobs.

scheduler    gives waiting jobs to workers; placing says where they can go, decisions is what is written down of it,
             turns how many of them one look sees, and in which order; giving writes down what goes to whom
fleet        the workers of all providers: launched, looked for, removed; pools starts some ahead of jobs
sessions     the connections of workers
attempts     what happens to an attempt at the word of others than its worker; live holds those that are not over
losses       by which cause an attempt ends whose worker is gone
reports      what workers say of their attempts; results is what can be true of an end
completion   the end of an attempt that has a result
recovery     what a starting server does about what the one before has left
"""
